"""Audio files: open, check, decode and resample."""
