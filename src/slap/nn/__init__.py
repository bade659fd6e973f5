"""Layers over packed tokens, and the tokenizer."""
