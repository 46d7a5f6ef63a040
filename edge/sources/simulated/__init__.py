"""The drawn line: `source` gives its frames, `part` draws a good part, `defects` spoil it."""
