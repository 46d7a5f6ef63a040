"""Labelled pictures on disk: `find` reads a folder of any layout, `verify` says what is wrong with it."""
