"""The paper's Table 1, quoted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperCost:
    """A row of Table 1. What the paper calls FLOPs are multiply-accumulates of a three-channel input."""

    parameters: float
    macs: float
    size_bytes: float
    peak_bytes: float
    latency_ms: float


PAPER_TABLE_1 = {
    "visual": PaperCost(25.6e6, 4.1e9, 102.4e6, 180e6, 31.0),
    "audio": PaperCost(28.0e6, 4.5e9, 112e6, 200e6, 34.0),
    "fused": PaperCost(53.6e6, 8.6e9, 214.4e6, 450e6, 55.0),
}
