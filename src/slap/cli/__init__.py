"""The commands that use a trained model: `slap embed`, `classify`, `score`, `caption`, `frames` and `export`."""
