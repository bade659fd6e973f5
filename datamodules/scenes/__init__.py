"""Scenes to evaluate on: composed of held-out sounds, with questions about them."""
