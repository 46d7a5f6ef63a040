"""Work beside the line: `bench`, `inspect_pictures`, `capture_pictures`."""
