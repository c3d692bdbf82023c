"""Templates of the texts that hf-free writes; see `hf_free.publishing.card`."""
