"""The measurements behind the tables."""
