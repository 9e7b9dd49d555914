"""What every family offers and what its networks answer: nothing here knows one of them."""
