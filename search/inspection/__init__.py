"""What a trained network does with images: measured in one pass, a module a picture."""
