"""Overlap between sets: by id, by samples and by fingerprint."""

WAYS = ("id", "origin", "content", "fingerprint")
"""Ways in which clips are compared; the last two decode all audio."""
