"""How datasets are laid out: one module for each layout, `detect` tells them apart."""
