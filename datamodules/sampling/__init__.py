"""Sampling: which clips make a batch, on which rank, from which position."""
