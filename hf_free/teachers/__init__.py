"""Teachers: frozen classifiers of timm and transformers, read from a Hub or a folder or held in memory, and black
boxes."""
