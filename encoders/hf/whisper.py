"""The encoder of Whisper (arXiv 2212.04356) of the `transformers` library, as an audio encoder.

B clips, W windows of all clips, T frames, F mel bands, N rows of two frames, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.core.registry import register
from slap.encoders.hf.attention import ATTENTION, use_packed_attention
from slap.encoders.hf.audio_base import HFAudioEncoder, hide
from slap.encoders.hf.pretrained import make_config, make_extractor, one_at_most, read_extractor, read_model, scale_of
from slap.encoders.hf.windows import cut, join, padded, windows_of
from slap.encoders.specaugment import SpecAugment

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536},
    "base": {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048},
    "small": {"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072},
}
"""Arguments of `WhisperConfig` by size, as published (arXiv 2212.04356, table 1)."""

FLOOR = -1.5
"""Value of silence: (log10(1e-10) + 4) / 4."""

RANGE = 2.0
"""Range of a window's values below its largest value: 80 dB on the extractor's scale."""


@register("hf-whisper")
class HFWhisper(HFAudioEncoder):
    """Whisper's encoder (arXiv 2212.04356) of transformers, pretrained or with random weights.

    It needs `pip install 'slap-audio[hf]'`. The model takes windows of 30 s. Longer clips are cut into as few windows
    of equal length as possible, which do not attend to each other; shorter ones are padded with silence, as its feature
    extractor pads them. Features, one every 20 ms, are those of the clip, without the padding.

    Our choices: for the masked view the frames of hidden rows are set to 0, or the convolutions would mix them into
    their neighbors, and a learned token replaces the output of the convolutions there. There is no dropout within
    attention and no dropping of layers; the other dropouts are as configured.

    Args:
        pretrained: name of a model on the Hugging Face Hub, e.g. `openai/whisper-small`, or a folder that
            `save_pretrained` wrote.
        size: `tiny`, `base` or `small`, with random weights. It is `base` when neither `pretrained` nor `config`
            is given.
        config: arguments of transformers' `WhisperConfig`, for a model with random weights.
        extractor: arguments of transformers' `WhisperFeatureExtractor`. Default: those of `pretrained`.
        revision: branch, tag or commit of `pretrained` on the hub. Default: the newest.
        fill: whether to pad every window to the model's 30 s, as in its training. Without padding, short clips are many
            times faster, but pretrained weights were not trained for it.
        lr_scale: factor on the learning rate of the model's parameters. Default: 0.1 for pretrained weights and 1 for
            random ones (our choice).
        mask_bands: maximal width of a SpecAugment mask in frequency, in mel bands; 0 for none.
        mask_share: maximal width of a SpecAugment mask in time, as a share of the clip; 0 for none.
        checkpointing: recompute layers in the backward pass instead of keeping their activations.

    Raises:
        ImportError: transformers is missing or too old.
        OSError: there is no such folder or name on the hub, or no connection to the hub.
        ValueError: arguments exclude each other or are unknown; the files are of another model or incomplete.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        size: str | None = None,
        config: Mapping[str, Any] | None = None,
        extractor: Mapping[str, Any] | None = None,
        revision: str | None = None,
        fill: bool = True,
        lr_scale: float | None = None,
        mask_bands: int = 16,
        mask_share: float = 0.15,
        checkpointing: bool = False,
    ) -> None:
        one_at_most(pretrained=pretrained, size=size, config=config)
        use_packed_attention()
        from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        if pretrained:
            model = read_model(WhisperModel, pretrained, revision).encoder
        else:
            model = WhisperEncoder(make_config(WhisperConfig, size, config, SIZES))
        shape = model.config
        shape._attn_implementation = ATTENTION
        if extractor is None and pretrained:
            features = read_extractor(WhisperFeatureExtractor, pretrained, revision)
        else:
            seconds = 2 * shape.max_source_positions * 160 // 16_000
            lengths = {"feature_size": shape.num_mel_bins, "chunk_length": seconds}
            features = make_extractor(WhisperFeatureExtractor, {**lengths, **(extractor or {})})
        made = (features.feature_size, features.nb_max_frames)
        if made != (shape.num_mel_bins, 2 * shape.max_source_positions):
            raise UserError(
                f"the feature extractor makes {made[1]} frames of {made[0]} bands, "
                f"the model takes {2 * shape.max_source_positions} of {shape.num_mel_bins}"
            )
        super().__init__(model, features, shape.d_model, scale_of(lr_scale, pretrained), checkpointing)
        self.fill = fill
        self.step = 2 * features.hop_length / features.sampling_rate
        self.longest: int = features.n_samples
        self.logmel = WhisperLogMel(features)
        self.augment = SpecAugment(mask_bands, mask_share)

    def patchify(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into pairs of frames, (N', 2 F), with (time, window) positions."""
        windows, places = cut(audio, self.longest, 2 * self.logmel.hop)
        frames = self.augment(self.logmel(windows))
        pairs = [nn.functional.pad(item, (0, 0, 0, len(item) % 2), value=FLOOR) for item in frames.unpack()]
        rows = Packed.pack([item.reshape(-1, 2 * item.shape[1]) for item in pairs])
        return join(Packed(rows.values, rows.lengths, rows.index[:, None], rows.layout), places)

    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Encode pairs of frames, (N, 2 F), as dense features, (N, D); `hidden` as in `AudioEncoder`."""
        windows = windows_of(patches)
        model, bands = self.model, patches.values.shape[1] // 2
        x, quiet = _limited(patches.values, windows, hidden)
        length = model.config.max_source_positions if self.fill else windows.max_length
        rows = Packed(x, windows.lengths, layout=windows)
        mel = padded(rows, length)
        place = windows.item * length + windows.index
        if self.fill:
            filling = torch.ones(len(windows.sizes) * length, 1, dtype=torch.bool, device=x.device)
            filling = filling.index_fill(0, place, False).view(len(windows.sizes), length, 1)
            mel = torch.where(filling, quiet[:, None, None], mel)
        mel = mel.view(len(windows.sizes), 2 * length, bands).transpose(1, 2)
        y = nn.functional.gelu(model.conv1(mel))
        if not self.fill:  # beyond the end of a window the second convolution gets zeros, as beyond the last one
            inside = torch.arange(2 * length, device=x.device) < 2 * windows.lengths[:, None]
            y = y * inside[:, None]
        y = nn.functional.gelu(model.conv2(y)).transpose(1, 2).flatten(0, 1)
        if hidden is not None:
            token = hide(y.index_select(0, place), hidden, self.mask_token)
            y = y.index_copy(0, place, token)
        y = y + model.embed_positions.weight[:length].repeat(len(windows.sizes), 1)
        if self.fill:
            sizes = (length,) * len(windows.sizes)
            layout = Layout(torch.full_like(windows.lengths, length), sizes)
        else:
            y, layout, place = y.index_select(0, place), windows, torch.arange(len(x), device=x.device)
        y = nn.functional.dropout(y, p=model.dropout, training=self.training)[None]
        for layer in model.layers:
            y = layer(y, None, layout=layout)
        return patches.replace(model.layer_norm(y[0, place]))


def _limited(rows: Tensor, windows: Layout, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    """Limit values to `RANGE` below the largest visible one of their window; also return its silence, (W,)."""
    seen = hide(rows, hidden, FLOOR).amax(1)
    largest = rows.new_full((len(windows.sizes),), FLOOR).scatter_reduce(0, windows.item, seen, "amax")
    quiet = (largest - RANGE).clamp(min=FLOOR)
    return hide(torch.maximum(rows, quiet[windows.item, None]), hidden, 0.0), quiet


class WhisperLogMel(nn.Module):
    """Whisper's log-mel frames, packed, without the limit of their range and without padding.

    Args:
        extractor: a `WhisperFeatureExtractor`.
    """

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        if extractor.dither:
            raise UserError(f"the feature extractor has a dither of {extractor.dither}, which is random; set it to 0")
        self.fft, self.hop = extractor.n_fft, extractor.hop_length
        self.samples, self.most = extractor.n_samples, extractor.nb_max_frames
        self.register_buffer("hann", torch.hann_window(self.fft), persistent=False)
        self.register_buffer("bank", torch.from_numpy(extractor.mel_filters).float(), persistent=False)
        self.hann: Tensor
        self.bank: Tensor

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def forward(self, windows: Packed) -> Packed:
        """Turn waveforms, (N,), into frames, (T, F): all that overlap the window, with silence after its end.

        Raises:
            ValueError: a clip has no samples.
        """
        if 0 in windows.sizes:
            raise UserError(f"clip {windows.sizes.index(0)} of the batch has no samples; the shortest clip has one")
        # The outermost sample of a frame has weight 0.
        sizes = [min((n + self.fft // 2 - 2) // self.hop + 1, self.most) for n in windows.sizes]
        frames = [self._frames(wave.float())[:size] for wave, size in zip(windows.unpack(), sizes, strict=True)]
        return Packed.pack(frames)

    def _frames(self, wave: Tensor) -> Tensor:
        # At the end of a full window, samples are reflected; elsewhere there is silence.
        wave = nn.functional.pad(wave, (0, max(min(2 * self.fft, self.samples - len(wave)), 0)))
        power = torch.stft(wave, self.fft, self.hop, window=self.hann, return_complex=True).abs().square()
        return ((power.T @ self.bank).clamp(min=1e-10).log10() + 4) / 4
