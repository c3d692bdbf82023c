"""A run: what it sets up, its loop, its folder."""
