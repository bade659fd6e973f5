"""Third-party encoders from transformers."""
