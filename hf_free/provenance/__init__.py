"""Plain data, no torch: what things are and where they come from."""
