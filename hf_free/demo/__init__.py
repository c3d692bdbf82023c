"""Something to show: small teachers, a Hub on this machine and the whole way in a few minutes."""
