"""Gates on layers and filters: heads, losses, execution."""
