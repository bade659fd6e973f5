"""The audio encoder of CLAP (HTS-AT, arXiv 2211.06687) of the `transformers` library.

B clips, W windows of all clips, T frames, F mel bands, N patches, D width. The model folds a window's spectrogram into
a square image: the quarters of the window are below each other, and time runs to the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.core.registry import register
from slap.encoders.hf.attention import use_packed_attention
from slap.encoders.hf.audio_base import HFAudioEncoder, hide
from slap.encoders.hf.clap_graph import ClapGraph
from slap.encoders.hf.clap_logmel import ClapLogMel
from slap.encoders.hf.clap_pooling import ClapAudioPooling, check_pooling
from slap.encoders.hf.pretrained import (
    describe_extractor,
    make_config,
    make_extractor,
    one_at_most,
    read_extractor,
    read_model,
    scale_of,
)
from slap.encoders.hf.windows import cut, join
from slap.encoders.specaugment import SpecAugment
from slap.nn.pooling import Pooling

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"depths": [1, 1, 2, 1], "patch_embeds_hidden_size": 32, "hidden_size": 256},
    "base": {},
}
"""Arguments of `ClapAudioConfig` by size. `base` is the published HTS-AT, by transformers' defaults; `tiny` is ours."""


@register("hf-clap")
class HFCLAP(HFAudioEncoder):
    """The audio encoder of CLAP (arXiv 2211.06687) of transformers, pretrained or with random weights.

    It needs `pip install 'slap-audio[hf]'`. The model takes windows of 10 s at 48 kHz, padded as its feature extractor
    says, by default with repeats of the clip. A window has 64 features for a clip of any duration: 32 in time by 2 in
    frequency. Their times are those of the padded, stretched window, so this encoder has no `step`.

    Our choices: longer clips are cut into as few windows of equal length as possible, which do not attend to each
    other; nothing is cropped at random, and the "fusion" of crops in some models is never used. For the masked view,
    hidden patches are 0 in the spectrogram and a learned token in the model. Where padding repeats a short clip, hidden
    patches are visible in the other repeats, so pass `extractor={padding: pad}` to learn from masks. The normalization
    of bands keeps the averages of the model, so that a clip does not depend on its batch in training either.

    Args:
        pretrained: name of a model on the Hugging Face Hub, e.g. `laion/clap-htsat-unfused`, or a folder that
            `ClapModel` was saved to.
        size: `base` or `tiny`, with random weights. It is `base` when neither `pretrained` nor `config` is given.
        config: arguments of transformers' `ClapAudioConfig`, for a model with random weights.
        extractor: arguments of transformers' `ClapFeatureExtractor`; each replaces that of `pretrained`.
        revision: branch, tag or commit of `pretrained` on the hub. Default: the newest.
        projection: pool as CLAP does: the mean of the features, and CLAP's projection, whose dimensions must be those
            of the model. Models that begin from a whole CLAP model (`--model.start FOLDER`) have it; beside
            `pretrained`, which brings the encoder alone, it is refused. False: by attention, as with other encoders.
        lr_scale: factor on the learning rate of the model's parameters. Default: 0.1 for pretrained weights and 1 for
            random ones (our choice).
        mask_bands: maximal width of a SpecAugment mask in frequency, in mel bands; 0 for none.
        mask_share: maximal width of a SpecAugment mask in time, as a share of a window; 0 for none.
        checkpointing: recompute layers in the backward pass instead of keeping their activations.

    Raises:
        ImportError: transformers is missing or too old.
        OSError: there is no such folder or name on the hub, or no connection to the hub.
        ValueError: arguments exclude each other or are unknown; the files are of another model or incomplete; the
            image does not divide into features.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        size: str | None = None,
        config: Mapping[str, Any] | None = None,
        extractor: Mapping[str, Any] | None = None,
        revision: str | None = None,
        projection: bool = False,
        lr_scale: float | None = None,
        mask_bands: int = 12,
        mask_share: float = 0.15,
        checkpointing: bool = False,
    ) -> None:
        one_at_most(pretrained=pretrained, size=size, config=config)
        if pretrained and projection:
            raise UserError(
                f"`pretrained` brings CLAP's audio encoder alone, and its projection would be random: begin from the "
                f"whole model (--model.start {pretrained}), or leave out `projection`"
            )
        use_packed_attention()
        from transformers import ClapAudioConfig, ClapFeatureExtractor, ClapModel
        from transformers.models.clap.modeling_clap import ClapAudioModel

        if pretrained:
            model = read_model(ClapModel, pretrained, revision).audio_model
            settings = describe_extractor(read_extractor(ClapFeatureExtractor, pretrained, revision))
        else:
            model = ClapAudioModel(make_config(ClapAudioConfig, size, config, SIZES))
            bands = "fusion" if model.config.enable_fusion else "rand_trunc"
            settings = {"feature_size": model.config.num_mel_bins, "truncation": bands}
        features = make_extractor(ClapFeatureExtractor, {**settings, **(extractor or {})})
        shape, encoder = model.config, model.audio_encoder
        scale = scale_of(lr_scale, pretrained)
        super().__init__(model, features, encoder.num_features, scale, False, shape.patch_embeds_hidden_size)
        self.projection = projection
        self.checkpointing = checkpointing  # transformers does not offer it for this model
        self.logmel = ClapLogMel(features)
        self.longest: int = self.logmel.longest
        self.augment = SpecAugment(mask_bands, mask_share)
        self.chunks, self.bands = encoder.freq_ratio, shape.num_mel_bins
        self.grid = encoder.input_resolutions[-1][0]
        self.cell = shape.spec_size // self.grid
        self._check(features)
        if shape.enable_fusion:  # only crops of long clips pass through these
            encoder.patch_embed.fusion_model.requires_grad_(False)
            encoder.patch_embed.mel_conv2d.requires_grad_(False)

    def patchify(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into patches, (N', cell x cell), with (time, frequency, window) positions."""
        windows, places = cut(audio, self.logmel.longest, self.logmel.hop)
        norm = self.model.audio_encoder.batch_norm
        mel = self.logmel(windows)
        mel = (mel - norm.running_mean) * (norm.running_var + norm.eps).rsqrt()
        mel = torch.stack(self.augment(Packed.pack(list(mel))).unpack())
        # The model stretches to the image's width after the weight and bias of its norm, which here `forward` applies:
        # the result is the same.
        size = (self.chunks * self.grid * self.cell, self.bands)
        mel = nn.functional.interpolate(mel[:, None], size, mode="bicubic", align_corners=True)[:, 0]
        cells = rearrange(mel, "w (t i) (f j) -> w (t f) (i j)", i=self.cell, j=self.cell)
        packed = Packed.pack(list(cells))
        rows = self.bands // self.cell
        positions = torch.stack([packed.index // rows, packed.index % rows], 1)
        return join(Packed(packed.values, packed.lengths, positions, packed.layout), places)

    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Encode patches, (N, cell x cell), as dense features, (N, D); `hidden` as in `AudioEncoder`."""
        return patches.replace(self.encode(patches.values, hidden))

    def encode(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Encode the values of patches of whole windows, (N, cell x cell), as dense features, (N, D)."""
        encoder = self.model.audio_encoder
        names = {"c": self.chunks, "f": self.bands // self.cell, "i": self.cell, "j": self.cell, "t": self.grid}
        norm = encoder.batch_norm
        weight = rearrange(torch.stack([norm.weight, norm.bias]), "n (f j) -> n 1 f 1 j", j=self.cell)
        cells = rearrange(values, "(x f) (i j) -> x f i j", f=names["f"], j=self.cell)
        cells = (cells * weight[0] + weight[1]).flatten(2).flatten(0, 1)
        cells = hide(cells, hidden, 0.0)
        image = rearrange(cells, "(w c t f) (i j) -> w 1 (c f j) (t i)", **names)
        x = encoder.patch_embed(image, ())
        if hidden is not None:
            each = names | {"i": self.cell // encoder.patch_stride[1], "j": self.cell // encoder.patch_stride[0]}
            inside = repeat(hidden, "(w c t f) -> w (c f j t i)", **each)
            x = torch.where(inside[..., None], self.mask_token.to(x.dtype), x)
        for stage, size in zip(encoder.layers, encoder.input_resolutions, strict=True):
            if self.checkpointing and self.training:
                x = checkpoint(stage, x, size, use_reentrant=False)[0]
            else:
                x = stage(x, size)[0]
        names = {name: names[name] for name in "cft"}
        return rearrange(encoder.norm(x), "w (c f t) d -> (w c t f) d", **names)

    def pooling(self, embedding_dim: int, duration: bool = False) -> Pooling:
        """Make CLAP's own head where the argument `projection` asks for it, see `Encoder.pooling`."""
        if not self.projection:
            return super().pooling(embedding_dim, duration)
        check_pooling(self.model.config, self.width, embedding_dim, duration)
        return ClapAudioPooling(self.model.config)

    def graph(self) -> nn.Module:
        """Return this encoder for one clip, (T,) samples to (N, D)."""
        return ClapGraph(self)

    def _check(self, extractor: Any) -> None:
        shape = self.model.config
        if extractor.feature_size != self.bands:
            made = extractor.feature_size
            raise UserError(f"the feature extractor makes {made} bands, the model takes {self.bands}")
        if self.logmel.frames > self.chunks * shape.spec_size:
            raise UserError(
                f"the feature extractor makes {self.logmel.frames} frames, "
                f"the model takes {self.chunks * shape.spec_size} at most"
            )
        if self.chunks * self.bands != shape.spec_size or self.bands % self.cell:
            raise UserError(
                f"{self.bands} bands do not divide an image of {shape.spec_size} into features of {self.cell}; "
                "the published model has 64 bands, an image of 256 and features of 32"
            )
        if shape.enable_fusion and shape.fusion_type == "channel_map":
            raise UserError("models whose fusion_type is 'channel_map' take crops as channels; use another one")
