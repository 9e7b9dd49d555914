"""Trained networks made ready to ship."""
