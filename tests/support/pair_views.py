"""Views with free embeddings of clips and captions, for losses of pairs."""

from types import SimpleNamespace

import torch
from torch.nn.functional import normalize

from fake_views import FakeViews
from slap import Packed
from slap.core.batch import Batch


def make_views(clip, clip_key, caption_key, pairs=None, width=5, seed=0):
    """Views with free embeddings: `clip` and `caption_key` per caption, `clip_key` per clip, `pairs` of both keys."""
    generator = torch.Generator().manual_seed(seed)
    audio = normalize(torch.randn(len(clip_key), width, generator=generator, dtype=torch.float64), dim=1)
    text = normalize(torch.randn(len(clip), width, generator=generator, dtype=torch.float64), dim=1)
    batch = Batch(
        Packed.pack([torch.zeros(1)] * len(clip_key)),
        Packed.pack([torch.zeros(2, dtype=torch.int64)] * len(clip)),
        torch.tensor(clip),
        torch.tensor(clip_key),
        torch.tensor(caption_key),
        None if pairs is None else torch.tensor(pairs),
    )
    full = SimpleNamespace(embedding=audio.requires_grad_())
    text_view = SimpleNamespace(embedding=text.requires_grad_())
    return FakeViews(batch=batch, full=full, text=text_view)


CASES = {
    "one clip": ([0], [5], [7]),
    "one clip, three captions": ([0, 0, 0], [5], [7, 8, 9]),
    "nothing shared": ([0, 1, 2, 3], [1, 2, 3, 4], [11, 12, 13, 14]),
    "all the same caption": ([0, 1, 2], [1, 2, 3], [9, 9, 9]),
    "shared captions, several of a clip, out of order": ([2, 0, 1, 0, 3], [4, 3, 2, 1], [10, 10, 11, 12, 13]),
    "the same clip twice": ([0, 1, 2], [6, 6, 7], [1, 2, 3]),
    "huge keys": ([0, 1], [2**62, -(2**62)], [2**61 + 1, 2**61]),
    "a clip without captions": ([0, 2], [1, 2, 3], [5, 6]),
    "a caption known of a clip, but drawn for another": (
        [0, 1, 2],
        [1, 2, 3],
        [5, 6, 7],
        [[1, 5], [2, 6], [3, 7], [3, 5]],
    ),
}
