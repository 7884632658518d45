"""Sound on disk and in pipes: reading, writing, formats, tags, and files that appear whole."""
