"""A model behind HTTP: the Hub's image-classification protocol, answered by a teacher or a saved classifier."""
