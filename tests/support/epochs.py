"""The batches of a data module, without a model."""

import torch

from slap import Packed


def tokenize(captions):
    """Return a token per character, whose id is its code point."""
    return Packed.pack([torch.tensor([ord(letter) for letter in caption]) for caption in captions])


def epoch(data, number=0):
    """Return the training batches of an epoch."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    batches = list(loader)
    loader.close()
    return batches
