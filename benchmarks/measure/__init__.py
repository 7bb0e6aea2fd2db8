"""Timing artifacts: records, statistics, processes."""
