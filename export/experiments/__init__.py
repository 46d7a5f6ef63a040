"""One parameter varied, the rest held still."""
