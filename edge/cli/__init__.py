"""`patchline-edge`: arguments and exit codes, one module for each group of commands; `main` puts them together."""
