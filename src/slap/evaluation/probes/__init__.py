"""Probes on frozen embeddings: k nearest neighbors and logistic regression."""
