"""From a checkpoint to a verified artifact: TFLite or ONNX, float32 or INT8."""
