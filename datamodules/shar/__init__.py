"""Lhotse Shar: read and write sharded corpora."""
