"""A labelled set becomes results: taught, measured, kept, summarised."""
