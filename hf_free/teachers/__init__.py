"""Teachers: frozen timm classifiers read from a Hub or a folder."""
