"""Artefacts as they lie on disk: what they say of themselves, how they are run and measured in every runtime."""
