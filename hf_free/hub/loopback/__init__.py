"""A small Hub on 127.0.0.1, standard library only, for tests and demo."""
