"""What can be set: `sections` are the tables, `tree` the whole, `file` how it is read."""
