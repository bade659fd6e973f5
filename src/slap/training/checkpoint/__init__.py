"""Checkpoints: write, verify, resume exactly."""
