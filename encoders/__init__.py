"""The built-in audio and text encoders, one file each. Importing this package registers them."""

from slap.encoders.audio_transformer import AudioTransformer
from slap.encoders.hf.ast import HFAST
from slap.encoders.hf.clap import HFCLAP
from slap.encoders.hf.clap_text import HFCLAPText
from slap.encoders.hf.modernbert import ModernBERT
from slap.encoders.hf.text import HFText
from slap.encoders.hf.wav2vec2 import HFWav2Vec2
from slap.encoders.hf.whisper import HFWhisper
from slap.encoders.text_transformer import TextTransformer

__all__ = [
    "HFAST",
    "HFCLAP",
    "AudioTransformer",
    "HFCLAPText",
    "HFText",
    "HFWav2Vec2",
    "HFWhisper",
    "ModernBERT",
    "TextTransformer",
]
