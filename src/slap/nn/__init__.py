"""Layers on packed tokens, and tokenizers."""
