"""Data sets of Hugging Face: tables of audio and captions, on disk or as streams."""
