"""Captions: sample, augment and validate."""
