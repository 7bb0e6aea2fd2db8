"""Compilation for Snapdragon's NPU."""
