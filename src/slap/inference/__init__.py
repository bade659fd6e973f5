"""Trained models in use: load, embed, export."""
