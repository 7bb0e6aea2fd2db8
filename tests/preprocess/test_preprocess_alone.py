"""`preprocess` runs on a device as it is: it needs NumPy and the standard library, nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

NUMPY_ONLY = """
import sys

ALLOWED = set(sys.stdlib_module_names) | {"numpy", "preprocess"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ALLOWED:
            raise ImportError(f"preprocess must not need {name}")

sys.meta_path.insert(0, Refuse())
try:
    import pytest
except ImportError:
    pass
else:
    raise SystemExit("the import hook does not work")

import numpy as np
from preprocess import PreprocessSpec, skeleton_to_heatmaps, waveform_to_logmel

spec = PreprocessSpec.preset("nano")
rng = np.random.default_rng(0)
joints = rng.normal(0, 0.5, (8, 1, 25, 3))
assert skeleton_to_heatmaps(joints, np.ones((8, 1, 25)), spec.skeleton).tensor.shape == (96, 96, 31)
assert waveform_to_logmel(rng.normal(0, 0.1, 9000), spec.audio).shape == (64, 192, 3)
"""


def test_numpy_alone_is_enough() -> None:
    site_packages = str(Path(np.__file__).parents[1])
    root = str(Path(__file__).parents[2])
    code = f"import sys\nsys.path[:0] = [{root!r}, {site_packages!r}]\n{NUMPY_ONLY}"
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr + result.stdout
