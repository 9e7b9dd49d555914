"""Early exits: where they stand, their heads, their training."""
