"""Results become pages and plots."""
