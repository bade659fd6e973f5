"""Audio and text encoders, one file each. Importing this package registers them."""

from slap.encoders.audio_transformer import AudioTransformer

__all__ = ["AudioTransformer"]
