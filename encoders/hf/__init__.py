"""Encoders from the `transformers` library. They need `pip install 'slap-audio[hf]'`."""
