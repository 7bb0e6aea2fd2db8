"""Training after pruning: distillation and quantization-aware training."""
