"""`patchline-export`: arguments and exit codes, one module for each group of commands."""
