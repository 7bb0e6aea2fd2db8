"""Cost and time of a model file, layer by layer."""
