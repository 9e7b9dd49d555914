"""How long networks take on a machine: their units timed alone, and what that says of whole networks."""
