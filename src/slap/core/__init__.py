"""Foundations below the network: ragged batches, the registry of plug-ins, files, processes."""
