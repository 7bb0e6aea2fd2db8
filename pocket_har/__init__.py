"""Recognise human actions from a 3D skeleton and sound. Runs without TensorFlow.

import pocket_har

model = pocket_har.open()
recording = pocket_har.read("S001C001P001R001A010.skeleton")
print(model.predict(recording)[:5])
"""

from .api import ActionModel, Prediction, open, read

__all__ = ["ActionModel", "Prediction", "open", "read"]
