"""What dynamic transformers share: mixing, skipping and reordering of layers."""
