"""What to train next, and how long: sampler, early stopping, baselines to start from, limits."""
