"""Specification of the recogniser's inputs and the NumPy code that makes them. Needs NumPy, nothing else."""

from .errors import DataError
from .heatmaps import Heatmaps, skeleton_to_heatmaps
from .layouts import LAYOUTS, MSR20, NTU25, SkeletonLayout
from .logmel import fit_length, log_mel, stack_deltas, to_mono, waveform_to_logmel
from .spec import HeatmapSpec, LogMelSpec, PreprocessSpec

__all__ = [
    "LAYOUTS",
    "MSR20",
    "NTU25",
    "DataError",
    "HeatmapSpec",
    "Heatmaps",
    "LogMelSpec",
    "PreprocessSpec",
    "SkeletonLayout",
    "fit_length",
    "log_mel",
    "skeleton_to_heatmaps",
    "stack_deltas",
    "to_mono",
    "waveform_to_logmel",
]
