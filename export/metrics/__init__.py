"""How well defects are detected, and how sure that is: pure."""
