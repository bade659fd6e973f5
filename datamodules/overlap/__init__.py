"""Overlap between sets: by id, by samples and by fingerprint."""
