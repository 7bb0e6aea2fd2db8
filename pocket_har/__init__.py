"""Human action recognition from a 3D skeleton and sound. Runs without TensorFlow.

Example:
    >>> model = pocket_har.open()  # the demo that ships
    >>> recording = pocket_har.read("S001C001P001R001A010.skeleton")
    >>> model.predict(recording)[:5]
"""

from .api import ActionModel, Prediction, open, read

__all__ = ["ActionModel", "Prediction", "open", "read"]
