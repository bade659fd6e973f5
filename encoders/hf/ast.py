"""The Audio Spectrogram Transformer (AST, arXiv 2104.01778) of the `transformers` library, as an audio encoder.

B clips, W windows of all clips, T frames, N patches, R rows of patches in frequency, C columns in time, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks

from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.core.registry import register
from slap.encoders.hf.attention import ATTENTION, use_packed_attention
from slap.encoders.hf.audio_base import HFAudioEncoder, hide
from slap.encoders.hf.pretrained import make_config, make_extractor, one_at_most, read_extractor, read_model, scale_of
from slap.encoders.hf.windows import cut, join, windows_of
from slap.encoders.specaugment import SpecAugment

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"num_hidden_layers": 4, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "base": {},
}
"""Arguments of `ASTConfig` by size. `base` is the published model, by transformers' defaults; `tiny` is ours."""


@register("hf-ast")
class HFAST(HFAudioEncoder):
    """Audio Spectrogram Transformer (arXiv 2104.01778) of transformers, pretrained or with random weights.

    It needs `pip install 'slap-audio[hf]'`. The model takes at most `max_length` frames, 10.24 s as published. Longer
    clips are cut into as few windows of equal length as possible, which do not attend to each other. Shorter clips are
    padded as the model's feature extractor pads them. Features are those of the patches that hold audio, without the
    two extra tokens, which patches attend to, and without patches of padding.

    Our choices: a learned token replaces hidden patches before the positions are added (patches overlap by the strides,
    so a visible neighbor still shows the margin of a hidden patch), and there is no dropout within attention; the other
    dropouts are as configured.

    Args:
        pretrained: name of a model on the Hugging Face Hub, e.g. `MIT/ast-finetuned-audioset-10-10-0.4593`, or a folder
            that `save_pretrained` wrote.
        size: `base` or `tiny`, with random weights. It is `base` when neither `pretrained` nor `config` is given.
        config: arguments of transformers' `ASTConfig`, for a model with random weights.
        extractor: arguments of transformers' `ASTFeatureExtractor`. Default: those of `pretrained`.
        revision: branch, tag or commit of `pretrained` on the hub. Default: the newest.
        fill: whether to pad every window to the model's full length, as in its training. Without padding, short clips
            are many times faster, but pretrained weights were not trained for it.
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
        mask_bands: int = 24,
        mask_share: float = 0.15,
        checkpointing: bool = False,
    ) -> None:
        one_at_most(pretrained=pretrained, size=size, config=config)
        use_packed_attention()
        from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

        if pretrained:
            model = read_model(ASTModel, pretrained, revision)
        else:
            model = ASTModel(make_config(ASTConfig, size, config, SIZES))
        shape = model.config
        shape._attn_implementation = ATTENTION
        if extractor is None and pretrained:
            features = read_extractor(ASTFeatureExtractor, pretrained, revision)
        else:
            lengths = {"num_mel_bins": shape.num_mel_bins, "max_length": shape.max_length}
            features = make_extractor(ASTFeatureExtractor, {**lengths, **(extractor or {})})
        if (features.num_mel_bins, features.max_length) != (shape.num_mel_bins, shape.max_length):
            raise UserError(
                f"the feature extractor makes {features.max_length} frames of {features.num_mel_bins} bands, "
                f"the model takes {shape.max_length} of {shape.num_mel_bins}"
            )
        super().__init__(model, features, shape.hidden_size, scale_of(lr_scale, pretrained), checkpointing)
        self.fill = fill
        self.patch, self.strides = shape.patch_size, (shape.time_stride, shape.frequency_stride)
        self.step = shape.time_stride * 0.01
        self.rows, self.columns = model.embeddings.get_shape(shape)
        self.fbank = KaldiLogMel(features)
        self.augment = SpecAugment(mask_bands, mask_share)

    def patchify(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into patches, (N', patch x patch), with (time, frequency, window) positions."""
        frames = self.augment(self.fbank(audio))
        windows, places = cut(frames, self.model.config.max_length, self.strides[0])
        columns = [
            min(ceil(n / self.strides[0]), self.columns) for n in windows.sizes
        ]  # all that begin within the audio
        patches = [self._patches(item, count) for item, count in zip(windows.unpack(), columns, strict=True)]
        packed = Packed.pack(patches)
        positions = torch.stack([packed.index // self.rows, packed.index % self.rows], 1)
        return join(Packed(packed.values, packed.lengths, positions, packed.layout), places)

    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Encode patches, (N, patch x patch), as dense features, (N, D); `hidden` as in `AudioEncoder`."""
        windows = windows_of(patches)
        embeddings = self.model.embeddings
        grid = embeddings.position_embeddings[0, 2:]
        x = hide(self._embed(patches.values), hidden, self.mask_token)
        assert patches.positions is not None
        cell = patches.positions[:, 1] * self.columns + windows.index // self.rows
        x = x + grid[cell]
        special = torch.cat([embeddings.cls_token, embeddings.distillation_token], 1)
        special = (special + embeddings.position_embeddings[:, :2]).expand(len(windows.sizes), -1, -1)
        if self.fill:
            silence = self._embed(self.fbank.filling(patches.values).expand(1, self.patch**2))
            whole = torch.cat([special, (silence + grid).expand(len(windows.sizes), -1, -1)], 1).to(x.dtype)
            sizes = (whole.shape[1],) * len(windows.sizes)
            place = windows.item * whole.shape[1] + 2 + cell
            flat = whole.flatten(0, 1).index_copy(0, place, x)
        else:
            sizes = tuple(size + 2 for size in windows.sizes)
            place = torch.arange(len(x), device=x.device) + 2 * (windows.item + 1)
            flat = x.new_zeros(sum(sizes), self.width).index_copy(0, place, x)
            first = windows.cu_seqlens[:-1].long() + 2 * torch.arange(len(sizes), device=x.device)
            flat = flat.index_copy(0, torch.stack([first, first + 1], 1).flatten(), special.flatten(0, 1).to(x.dtype))
        layout = Layout(torch.tensor(sizes, dtype=torch.int32).to(x.device, non_blocking=True), sizes)
        y = embeddings.dropout(flat)[None]
        for layer in self.model.layers:
            y = layer(y, None, layout=layout)
        return patches.replace(self.model.layernorm(y[0, place]))

    def _patches(self, frames: Tensor, columns: int) -> Tensor:
        """Cut frames into patches, (T, bands) -> (columns x R, patch x patch), with padding at the end."""
        needed = (columns - 1) * self.strides[0] + self.patch
        filling = self.fbank.filling(frames).expand(max(needed - len(frames), 0), frames.shape[1])
        cells = torch.cat([frames, filling])[:needed].unfold(0, self.patch, self.strides[0])
        cells = cells.unfold(1, self.patch, self.strides[1])  # (columns, R, time, frequency)
        return cells.transpose(2, 3).flatten(2).flatten(0, 1)

    def _embed(self, patches: Tensor) -> Tensor:
        convolution = self.model.embeddings.patch_embeddings.projection
        return nn.functional.linear(patches, convolution.weight.flatten(1), convolution.bias)


class KaldiLogMel(nn.Module):
    """Log-mel frames as in Kaldi (`torchaudio.compliance.kaldi.fbank`), packed, with the normalization of AST.

    Frames of 25 ms every 10 ms lie wholly within the clip; a clip shorter than a frame is padded with zeros.

    Args:
        extractor: an `ASTFeatureExtractor`.
    """

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        rate = extractor.sampling_rate
        self.size, self.hop = int(rate * 0.025), int(rate * 0.01)
        self.fft = 1 << (self.size - 1).bit_length()
        self.mean: float = extractor.mean if extractor.do_normalize else 0.0
        self.scale: float = 2 * extractor.std if extractor.do_normalize else 1.0
        self.register_buffer("hann", torch.hann_window(self.size, periodic=False), persistent=False)
        bank = get_mel_banks(extractor.num_mel_bins, self.fft, rate, 20.0, 0.0, 100.0, -500.0, 1.0)[0]
        self.register_buffer("bank", nn.functional.pad(bank, (0, 1)).T.contiguous(), persistent=False)
        self.hann: Tensor
        self.bank: Tensor

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def forward(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into frames, (T, bands).

        Raises:
            ValueError: a clip has no samples.
        """
        if 0 in audio.sizes:
            raise UserError(f"clip {audio.sizes.index(0)} of the batch has no samples; the shortest clip has one")
        return Packed.pack([self._frames(clip.float()) for clip in audio.unpack()])

    def filling(self, like: Tensor) -> Tensor:
        """Return the value of padding after the end of a clip: 0 before the normalization."""
        return like.new_tensor(-self.mean / self.scale)

    def _frames(self, wave: Tensor) -> Tensor:
        wave = nn.functional.pad(wave, (0, max(self.size - len(wave), 0)))
        frames = wave.unfold(0, self.size, self.hop)
        frames = frames - frames.mean(1, keepdim=True)
        frames = frames - 0.97 * torch.cat([frames[:, :1], frames[:, :-1]], 1)
        spectrum = torch.fft.rfft(frames * self.hann, n=self.fft).abs().square()
        log = (spectrum @ self.bank).clamp(min=torch.finfo(torch.float32).eps).log()
        return (log - self.mean) / self.scale
