"""Measurements: cost, latency, memory and the tables made of them. Reads files, never a live model."""
