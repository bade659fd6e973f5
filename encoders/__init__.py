"""Audio and text encoders, one file each. Importing this package registers them."""

from slap.encoders.audio_transformer import AudioTransformer
from slap.encoders.modernbert import ModernBERT
from slap.encoders.text_transformer import TextTransformer

__all__ = ["AudioTransformer", "ModernBERT", "TextTransformer"]
