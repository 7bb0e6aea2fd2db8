"""Artifacts on disk: their manifest, how they run and are measured in every runtime, and what they answer."""
