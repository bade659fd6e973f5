"""Views of a batch whose tokens and embeddings a test chooses."""

from types import SimpleNamespace

import torch

from slap import Batch, Packed


class FakeViews(SimpleNamespace):
    """Has the views that it is given, in one piece."""

    chunks = 1

    @property
    def outline(self):
        return self.masked.tokens

    def per_clip(self, objective):
        return objective.compute_per_clip(self)

    def note(self, losses):
        """Nobody listens."""


def make_batch(captions, clip, clips):
    """A batch of captions, as tokens, each with the number of its clip."""
    return Batch(
        audio=Packed.pack([torch.zeros(1)] * clips),
        text=Packed.pack([torch.tensor(caption) for caption in captions]),
        clip=torch.tensor(list(clip)),
        clip_key=torch.arange(clips),
        caption_key=torch.arange(len(captions)),
    )
