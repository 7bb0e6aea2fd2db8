"""Artefacts on phones and boards: what the device is, running a tool there, and records that can be compared."""
