"""Foundations without a network: ragged batches, the registry, files, processes."""
