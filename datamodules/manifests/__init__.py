"""Manifests: read, index, check and filter cuts."""
