"""Audio and text encoders, one file each. Importing this package registers them."""

from slap.encoders.audio_transformer import AudioTransformer
from slap.encoders.hf.ast import HubAST
from slap.encoders.hf.clap import HubCLAP
from slap.encoders.hf.modernbert import ModernBERT
from slap.encoders.hf.text import HubText
from slap.encoders.hf.wav2vec2 import HubWav2Vec2
from slap.encoders.hf.whisper import HubWhisper
from slap.encoders.text_transformer import TextTransformer

__all__ = [
    "AudioTransformer",
    "HubAST",
    "HubCLAP",
    "HubText",
    "HubWav2Vec2",
    "HubWhisper",
    "ModernBERT",
    "TextTransformer",
]
