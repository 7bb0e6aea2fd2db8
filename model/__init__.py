"""The recogniser: configuration, backbones, fusion, training and evaluation. Importing it loads no framework."""
