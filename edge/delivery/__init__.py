"""Verdicts on their way to those who listen: `delivery` drives it, `stored` through the outbox, `direct` without.

`opening` makes them of the settings. From the outbox on it is the `pump`, which sends in the order of `send_order`,
explains `gaps`, and forgets in `settlement` what the broker has.
"""
