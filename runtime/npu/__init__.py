"""Snapdragon's NPU: its chips, compiled files and emulator."""
