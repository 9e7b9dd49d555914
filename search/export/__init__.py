"""From a point of the front to a model that runs anywhere, and back from its folder."""
