"""The network that is published, and how it adapts to new classes."""
