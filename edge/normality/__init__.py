"""What patches are compared with: `base` is what is asked, `exact_bank` and `fast_bank` answer, `make` says which."""
