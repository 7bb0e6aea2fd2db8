"""Specification of the recogniser's inputs and the NumPy code that makes them. Needs NumPy, nothing else."""
