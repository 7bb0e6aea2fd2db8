"""Limits of the verification, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """The least closeness of an artifact to the float model it was made from.

    Attributes:
        min_snr_db: signal-to-noise ratio of the logits.
        min_agreement: share of recordings on which both choose the same class.
        max_drop_points: accuracy lost, in percentage points.
    """

    min_snr_db: float
    min_agreement: float
    max_drop_points: float


# Converters reorder float32 arithmetic and fold constants: rounding of 2^-24 grows over some hundred layers to
# about 1e-5 relative (100 dB). 60 dB leaves room for other kernels and still exposes a single wrong constant.
FLOAT32_LIMITS = Tolerance(min_snr_db=60.0, min_agreement=0.999, max_drop_points=0.1)

# A mobile accuracy budget of one point, and the agreement that goes with it: most recordings that change class lie on
# the border, where both answers are about equally often right. 10 dB is where logits begin to lose their order.
INT8_LIMITS = Tolerance(min_snr_db=10.0, min_agreement=0.97, max_drop_points=1.0)

# The same file in two runtimes: kernels round int32 accumulators differently by at most one step per layer.
RUNTIMES_MIN_AGREEMENT = 0.99
