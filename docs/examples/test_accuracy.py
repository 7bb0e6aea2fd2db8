"""Copy this file into your tests. It fails unless the INT8 model is shown to be as accurate as the float one.

    export FLOAT_ARTIFACT=artifacts/nano-float32-tflite INT8_ARTIFACT=artifacts/nano-int8-tflite
    python -m pytest test_accuracy.py

ACCURACY_DATA is the folder of your recordings (default: synthetic ones are made), ACCURACY_MAX_DROP the points of
accuracy that INT8 may lose (default 1.0).
"""

import json
import os
import subprocess
import sys


def test_int8_is_as_accurate_as_float():
    command = [sys.executable, "-m", "quantize", "check", "--json"]
    command += ["--float", os.environ["FLOAT_ARTIFACT"], "--int8", os.environ["INT8_ARTIFACT"]]
    command += ["--max-drop", os.environ.get("ACCURACY_MAX_DROP", "1.0")]
    if "ACCURACY_DATA" in os.environ:
        command += ["--data", os.environ["ACCURACY_DATA"]]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    # 0: passed, 1: failed; with any other code there is no result, and standard error says why.
    assert run.returncode in (0, 1)
    result = json.loads(run.stdout)
    assert result["failures"] == []
    # Further demands, for example on the calibration of the probabilities:
    comparison = result["comparison"]
    assert comparison["int8"]["ece"] <= comparison["float"]["ece"] + 0.03
