"""A running study: driver, engines, workers, checkpoints, and what is shown of it."""
