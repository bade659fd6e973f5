"""Alternatives to compare with: encoders of other libraries with random weights, with their own front-ends.

Each takes waveforms as its documentation says, and all of every clip: a clip that is longer than the encoder takes is
cut into as many windows as needed. None of them can skip its padding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Peer = Callable[[Sequence[Tensor]], Tensor]
"""Waveforms at `rate` to a feature of each window or clip."""


class Windowed:
    """An encoder of the `transformers` library that takes windows of one length.

    Args:
        name: shown in the table.
        model: of windows' inputs, its forward pass.
        extractor: the library's feature extractor.
        rate: Hz.
        seconds: of a window.
        key: of the extractor's output.
    """

    def __init__(self, name: str, model: torch.nn.Module, extractor: Any, rate: int, seconds: float, key: str) -> None:
        self.name, self.rate = name, rate
        self._model, self._extractor, self._key = model.eval().requires_grad_(False), extractor, key
        self._samples = round(rate * seconds)

    @torch.no_grad()
    def __call__(self, clips: Sequence[Tensor]) -> Tensor:
        """Encode all windows of the clips together."""
        windows = [part.numpy() for clip in clips for part in clip.split(self._samples) if len(part) > 1]
        inputs = self._extractor(windows, sampling_rate=self.rate, return_tensors="pt")
        return self._model(inputs[self._key])[0]

    def operations(self, clips: Sequence[Tensor]) -> int:
        """Count the operations for the windows of the clips, padding included, by torch's counter."""
        # The counter knows no attention of CPUs but the one that is made of products.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self([torch.zeros(self._samples)])
        return counter.get_total_flops() * sum(-(-len(clip) // self._samples) for clip in clips)


def clap() -> Windowed:
    """Make the audio encoder of CLAP with the settings of `laion/larger_clap_general`, those of HTS-AT base."""
    from transformers import ClapAudioConfig, ClapFeatureExtractor
    from transformers.models.clap.modeling_clap import ClapAudioModel

    config = ClapAudioConfig(depths=[2, 2, 12, 2], patch_embeds_hidden_size=128, hidden_size=1024)
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    return Windowed(
        "CLAP with HTS-AT base, transformers", ClapAudioModel(config), extractor, 48_000, 10.0, "input_features"
    )


def clap_small() -> Windowed:
    """Make the same with transformers' defaults, those of `laion/clap-htsat-unfused` (HTS-AT tiny)."""
    from transformers import ClapAudioConfig, ClapFeatureExtractor
    from transformers.models.clap.modeling_clap import ClapAudioModel

    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    model = ClapAudioModel(ClapAudioConfig())
    return Windowed("CLAP with HTS-AT tiny, transformers", model, extractor, 48_000, 10.0, "input_features")


def ast() -> Windowed:
    """Make the Audio Spectrogram Transformer with transformers' defaults (86 M weights, width 768)."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    model = ASTModel(ASTConfig())
    return Windowed("AST, transformers", model, ASTFeatureExtractor(), 16_000, 10.24, "input_values")


def whisper() -> Windowed:
    """Make the encoder of Whisper `small`, which has the paper's width and depth (768, 12 layers)."""
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    shape = {"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072}
    model = WhisperEncoder(WhisperConfig(**shape))
    return Windowed(
        "Whisper small encoder, transformers", model, WhisperFeatureExtractor(), 16_000, 30.0, "input_features"
    )


class NaFlexCLAP:
    """open_clip's NaFlexCLAP-base: a spectrogram transformer of timm's on patches padded to the longest, with masks.

    Args:
        path: of open_clip's source, which is in no release yet (3.3.0 has it not); timm has to be installed.

    Raises:
        ValueError: the path holds no such source.
    """

    CONFIG = "naflexclap_base_pf8_pt16_moderntext"

    def __init__(self, path: Path) -> None:
        source = path / "src" if (path / "src").is_dir() else path
        if not (source / "open_clip" / "audio" / "naflex_audio.py").is_file():
            raise ValueError(f"{path} holds no source of open_clip with open_clip/audio/naflex_audio.py")
        sys.path.insert(0, str(source))
        import open_clip
        from open_clip.audio.config import CLIPAudioCfg
        from open_clip.audio.naflex_audio import AudioNaFlexCfg, AudioNaFlexPatchify
        from open_clip.audio.naflex_tower import NaFlexAudioEncoder

        config = open_clip.get_model_config(self.CONFIG)
        shape = CLIPAudioCfg(**config["audio_cfg"])
        self.name, self.rate = "NaFlexCLAP base, open_clip", shape.sample_rate
        self._model = NaFlexAudioEncoder(shape).eval().requires_grad_(False)
        self._patchify = AudioNaFlexPatchify(AudioNaFlexCfg.from_clip_audio_cfg(shape))

    @torch.no_grad()
    def __call__(self, clips: Sequence[Tensor]) -> Tensor:
        """Encode clips padded to the longest of them, as open_clip's loader pads a batch."""
        items = [self._patchify((clip[None], self.rate)) for clip in clips]
        keys = ("patches", "patch_coord", "patch_valid")
        pad = torch.nn.utils.rnn.pad_sequence
        return self._model({key: pad([item[key] for item in items], batch_first=True) for key in keys})["embedding"]


TRANSFORMERS = {"clap": clap, "clap-small": clap_small, "ast": ast, "whisper": whisper}
"""By name for the command line."""
