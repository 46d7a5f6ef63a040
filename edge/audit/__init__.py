"""`patchline-edge audit`: a subscriber with a ledger of its own, which proves what arrived and what did not.

`ranges`, `latency`, `messages`, `epoch` and `ledger` are pure; `store` is its file, `connection` its session, `run` the
command.
"""
