"""Artifacts on phones and boards: connections, tools, and records that can be compared."""
