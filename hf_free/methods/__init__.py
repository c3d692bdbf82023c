"""Published systems, one per file: each names its way to invert teachers and its way to learn."""
