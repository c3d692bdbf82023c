"""Images that a program draws."""
