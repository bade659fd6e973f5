"""Audio and text encoders, one file each. Importing this package registers them."""

from slap.encoders.audio_transformer import AudioTransformer
from slap.encoders.hf_ast import HubAST
from slap.encoders.hf_clap import HubCLAP
from slap.encoders.hf_text import HubText
from slap.encoders.hf_wav2vec2 import HubWav2Vec2
from slap.encoders.hf_whisper import HubWhisper
from slap.encoders.modernbert import ModernBERT
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
