"""What is published: the model card, its metadata, what is hidden."""
