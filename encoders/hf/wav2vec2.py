"""wav2vec 2.0 (arXiv 2006.11477) of the `transformers` library, as a packed audio encoder.

B clips, N rows of a hop each, S samples of a row, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.core.registry import register
from slap.encoders.hf.attention import ATTENTION, use_packed_attention
from slap.encoders.hf.audio_base import HFAudioEncoder, hide
from slap.encoders.hf.pretrained import make_config, make_extractor, one_at_most, read_extractor, read_model, scale_of
from slap.encoders.specaugment import SpecAugment

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 768,
        "conv_dim": [64] * 7,
    },
    "base": {},
}
"""Arguments of `Wav2Vec2Config` by size. `base` is the published model, by transformers' defaults; `tiny` is ours."""


@register("hf-wav2vec2")
class HFWav2Vec2(HFAudioEncoder):
    """wav2vec 2.0 (arXiv 2006.11477) of transformers, pretrained or with random weights, for any duration.

    It needs `pip install 'slap-audio[hf]'`. It gives one feature every 20 ms. The convolutions run separately on each
    clip, since the first of them may normalize over the whole clip (`feat_extract_norm` "group", as in the published
    base model); the layers run on packed clips, without padding. A clip shorter than the 25 ms that the first feature
    needs is padded with silence.

    Our choices: for the masked view the samples of hidden rows are set to 0, their mean, and the model's own mask token
    replaces the output of the convolutions there. There is no dropout within attention and no dropping of layers; the
    other dropouts are as configured. The weight norm of the convolution of positions is folded into its weight.

    Args:
        pretrained: name of a model on the Hugging Face Hub, e.g. `facebook/wav2vec2-base`, or a folder that
            `save_pretrained` wrote.
        size: `base` or `tiny`, with random weights. It is `base` when neither `pretrained` nor `config` is given.
        config: arguments of transformers' `Wav2Vec2Config`, for a model with random weights.
        extractor: arguments of transformers' `Wav2Vec2FeatureExtractor`. Default: those of `pretrained`.
        revision: branch, tag or commit of `pretrained` on the hub. Default: the newest.
        lr_scale: factor on the learning rate of the model's parameters. Default: 0.1 for pretrained weights and 1 for
            random ones (our choice).
        mask_share: maximal length of a segment that training replaces by silence, as a share of the clip; 0 for none.
            It corresponds to SpecAugment's masks in time; waveforms have no bands to mask.
        checkpointing: recompute layers in the backward pass instead of keeping their activations.

    Raises:
        ImportError: transformers is missing or too old.
        OSError: there is no such folder or name on the hub, or no connection to the hub.
        ValueError: arguments exclude each other or are unknown; the files are of another model or incomplete; the
            model has an adapter, which would make features fewer than rows.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        size: str | None = None,
        config: Mapping[str, Any] | None = None,
        extractor: Mapping[str, Any] | None = None,
        revision: str | None = None,
        lr_scale: float | None = None,
        mask_share: float = 0.15,
        checkpointing: bool = False,
    ) -> None:
        one_at_most(pretrained=pretrained, size=size, config=config)
        use_packed_attention()
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        if pretrained:
            model = read_model(Wav2Vec2Model, pretrained, revision, unneeded=("masked_spec_embed", "adapter"))
        else:
            model = Wav2Vec2Model(make_config(Wav2Vec2Config, size, config, SIZES))
        shape = model.config
        if shape.add_adapter:
            raise UserError("add_adapter is set, which makes features fewer than rows; set it to false")
        shape._attn_implementation = ATTENTION
        if extractor is None and pretrained:
            features = read_extractor(Wav2Vec2FeatureExtractor, pretrained, revision)
        else:
            features = make_extractor(Wav2Vec2FeatureExtractor, extractor or {})
        super().__init__(model, features, shape.hidden_size, scale_of(lr_scale, pretrained), checkpointing)
        if hasattr(model, "masked_spec_embed"):
            self.mask_token = nn.Parameter(model.masked_spec_embed.detach().clone())
            del model.masked_spec_embed
        model.encoder.pos_conv_embed.conv = _plain(model.encoder.pos_conv_embed.conv)
        self.normalize: bool = features.do_normalize
        self.hop = prod(shape.conv_stride)
        self.step = self.hop / features.sampling_rate
        strides = accumulate(shape.conv_stride[:-1], int.__mul__, initial=1)
        kernels = zip(shape.conv_kernel, strides, strict=True)
        self.field = 1 + sum((kernel - 1) * stride for kernel, stride in kernels)
        self.augment = SpecAugment(bands=0, share=mask_share)

    def patchify(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into rows, (N', S), with (time, samples) positions.

        A row holds the samples of one hop, and the last row of a clip all the rest. The second position is their
        number; zeros follow them.

        Raises:
            ValueError: a clip has no samples.
        """
        if 0 in audio.sizes:
            raise UserError(f"clip {audio.sizes.index(0)} of the batch has no samples; the shortest clip has one")
        clips = [nn.functional.pad(self._normal(clip), (0, max(self.field - len(clip), 0))) for clip in audio.unpack()]
        rows = Packed.pack([self._rows(clip) for clip in clips])
        samples = torch.full_like(rows.index, self.hop)
        ends = torch.tensor([len(clip) for clip in clips]).to(samples.device, non_blocking=True)
        samples[rows.cu_seqlens[1:].long() - 1] = ends - (rows.lengths.long() - 1) * self.hop
        rows.layout.plans["samples"] = tuple(len(clip) for clip in clips)
        augmented = self.augment(rows).values
        return Packed(augmented, rows.lengths, torch.stack([rows.index, samples], 1), rows.layout)

    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Encode rows, (N, S), as dense features, (N, D); `hidden` as in `AudioEncoder`."""
        features = self._features(patches.replace(hide(patches.values, hidden, 0.0)))
        x = hide(self.model.feature_projection(features)[0], hidden, self.mask_token)
        encoder, stable = self.model.encoder, self.model.config.do_stable_layer_norm
        x = x + self._positions(patches.replace(x))
        x = encoder.dropout(x if stable else encoder.layer_norm(x))[None]
        for layer in encoder.layers:
            x = layer(x, None, layout=patches.layout)
        return patches.replace((encoder.layer_norm(x) if stable else x)[0])

    def _features(self, patches: Packed) -> Tensor:
        """Compute the output of the convolutions on the waveforms, (N, channels)."""
        clips = zip(patches.unpack(), self._samples(patches), strict=True)
        extract = _uncompiled if torch.compiler.is_compiling() else _clip_by_clip
        return extract(self.model.feature_extractor, [self._wave(rows, n) for rows, n in clips])

    def _normal(self, clip: Tensor) -> Tensor:
        clip = clip.float()
        if not self.normalize:
            return clip
        return (clip - clip.mean()) / (clip.var(unbiased=False) + 1e-7).sqrt()

    def _rows(self, clip: Tensor) -> Tensor:
        """Cut a clip into rows, (n,) -> (rows, S)."""
        count = (len(clip) - self.field) // self.hop + 1
        width = max(self.field, self.hop) + self.hop - 1
        first, last = clip[: (count - 1) * self.hop].view(-1, self.hop), clip[(count - 1) * self.hop :]
        ends = (nn.functional.pad(part, (0, width - part.shape[-1])) for part in (first, last[None]))
        return torch.cat(list(ends))

    def _wave(self, rows: Tensor, samples: int) -> Tensor:
        """Join the rows of a clip, (rows, S) -> (n,); the inverse of `_rows`."""
        return torch.cat([rows[:-1, : self.hop].flatten(), rows[-1]])[:samples]

    def _samples(self, patches: Packed) -> tuple[int, ...]:
        """Return the number of samples of each clip, on the host."""
        if "samples" not in patches.layout.plans:  # the layout is a new one, e.g. after a move to another device
            assert patches.positions is not None
            last = patches.positions[patches.cu_seqlens[1:].long() - 1]
            patches.layout.plans["samples"] = tuple((last[:, 0] * self.hop + last[:, 1]).tolist())
        samples: tuple[int, ...] = patches.layout.plans["samples"]
        return samples

    def _positions(self, x: Packed) -> Tensor:
        """Compute the position embedding, a convolution over features, (N, D), with zeros between clips."""
        embed = self.model.encoder.pos_conv_embed
        gap = ceil(self.model.config.num_conv_pos_embeddings / 2)
        place = torch.arange(len(x.values), device=x.values.device) + gap * x.item
        spread = x.values.new_zeros(len(x.values) + gap * len(x), self.width).index_copy(0, place, x.values)
        return embed(spread[None])[0].index_select(0, place)


def _clip_by_clip(extract: Callable[[Tensor], Tensor], clips: Sequence[Tensor]) -> Tensor:
    """Compute the rows of all clips, (N, D); `extract` makes (1, D, rows of a clip) from each clip, (1, n)."""
    return torch.cat([extract(clip[None])[0].T for clip in clips])


# Compiled code calls it outside of its graph, since it would be compiled anew for the lengths of each batch. Not by
# `torch.compiler.disable`, which imports the compiler at once.
_uncompiled = _disable_dynamo(_clip_by_clip)


def _plain(normed: nn.Conv1d) -> nn.Conv1d:
    """Return the convolution without its weight norm, since parametrized modules do not pickle."""
    size = normed.kernel_size[0]
    plain = nn.Conv1d(normed.in_channels, normed.out_channels, size, padding=size // 2, groups=normed.groups)
    assert normed.bias is not None
    plain.load_state_dict({"weight": normed.weight.detach(), "bias": normed.bias.detach()})
    return plain
