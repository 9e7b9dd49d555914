"""Image data sets: sources, decoding, splits, augmentation."""
