"""`patchline-edge audit`: a subscriber with a ledger of its own, which proves what arrived and what did not.

`ranges`, `latency`, `messages`, `epoch` and `ledger` are pure; `store` is its file, `options` what it is asked for,
`listener` listens, `view` shows, `run` is the command.
"""
