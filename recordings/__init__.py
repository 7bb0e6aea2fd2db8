"""Recordings of actions: readers, protocols, the synthetic generator, batches and calibration sets."""

from .reading import read_recording
from .recording import Recording

__all__ = ["Recording", "read_recording"]
