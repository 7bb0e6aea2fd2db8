"""The paper's Tables 1 and 2, quoted."""

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

# Accuracy in per cent on MSR Daily Activity 3D, and on NTU RGB+D by subject and by view.
PAPER_DATA_SETS = ("MSR Daily", "NTU X-Sub", "NTU X-View")
PAPER_TABLE_2 = {
    "ResNet-18": (81.4, 79.4, 84.3),
    "ResNet-34": (88.7, 85.4, 88.5),
    "ResNet-50": (91.8, 90.5, 94.6),
    "ConvNeXt-T": (87.8, 81.7, 81.7),
    "fused": (97.9, 94.7, 98.6),
}
