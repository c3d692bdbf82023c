"""What flows through a run: images, logits and episodes, as tensors without owners."""
