"""Verdicts on their way to those who listen: `delivery` drives it, `stored` through the outbox, `direct` without."""
