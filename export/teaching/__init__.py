"""Pictures of good parts become a bundle; no torch."""
