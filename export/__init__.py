"""From a checkpoint to a verified artefact: TFLite or ONNX, float32 or INT8."""
