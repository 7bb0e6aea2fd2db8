"""Recordings of actions: readers, protocols, the synthetic generator, batches and calibration sets."""
