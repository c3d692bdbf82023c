"""The pooled learner: teachers themselves as the embedding, each with the weight that their agreement gives it."""
