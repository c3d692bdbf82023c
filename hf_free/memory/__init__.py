"""Images, and what all teachers say of them."""
