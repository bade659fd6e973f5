"""The commands that use a trained model: `slap embed`, `classify`, `caption`, `frames` and `export`."""
