"""Generation of captions with a trained decoder: greedy, by beam search, or by nucleus sampling.

B clips, N audio tokens, D' their width, K beams, V vocabulary, T tokens per caption.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.core.packed import Packed
from slap.objectives.caption_decoder import Decoder


@torch.no_grad()
def greedy(decoder: Decoder, context: Packed, bos: int, eos: int, max_length: int) -> Packed:
    """Take the most probable token each time, until `eos` or `max_length`.

    Args:
        decoder: the decoder that predicts the next token.
        context: (N, D') audio tokens of B clips.
        bos: the token that begins a caption.
        eos: the token that ends a caption.
        max_length: maximal number of tokens, `bos` and `eos` included; a caption that reaches it may lack `eos`.

    Returns:
        Tokens of B captions, int64, each `bos ... eos`. The caption of a clip does not depend on the other clips.
    """
    cache = decoder.begin(context)
    tokens = context.lengths.new_full((len(context), 1), bos, dtype=torch.int64)
    lengths = torch.ones_like(context.lengths)
    done = torch.zeros_like(lengths, dtype=torch.bool)
    while tokens.shape[1] < max_length and not bool(done.all()):
        following = _ranked(decoder.step(tokens[:, -1], cache), eos).argmax(1)
        tokens = torch.cat([tokens, following[:, None]], 1)
        lengths = lengths + ~done
        done = done | (following == eos)
    return _pack(tokens, lengths)


@torch.no_grad()
def beam_search(
    decoder: Decoder, context: Packed, bos: int, eos: int, max_length: int, beam: int, length_penalty: float
) -> Packed:
    """Keep the K most probable beginnings of each clip's caption, and return the best caption at the end.

    Complete captions keep their place in the beam and their probability, so the search ends when all K are complete.
    They are compared by log-probability / length ** `length_penalty`, where the length does not count `bos`.

    Args:
        decoder: the decoder that predicts the next token.
        context: (N, D') audio tokens of B clips.
        bos: the token that begins a caption.
        eos: the token that ends a caption.
        max_length: maximal number of tokens, `bos` and `eos` included; a caption that reaches it may lack `eos`.
        beam: K. 1 gives the result of `greedy`.
        length_penalty: 0 prefers the most probable caption, and thereby short captions; 1 the highest mean over tokens.

    Returns:
        Tokens of B captions, int64, each `bos ... eos`. The caption of a clip does not depend on the other clips.
    """
    clips, device = len(context), context.values.device
    cache = decoder.begin(context, beam)
    tokens = torch.full((clips * beam, 1), bos, device=device)
    first = torch.arange(clips, device=device)[:, None] * beam  # the row of each clip's first beam
    # All beams begin alike. Only one of them has a finite score, or all would stay alike.
    score = torch.full((clips, beam), -torch.inf, device=device)
    score[:, 0] = 0
    length = torch.zeros(clips, beam, dtype=torch.int64, device=device)
    done = torch.zeros(clips, beam, dtype=torch.bool, device=device)
    while tokens.shape[1] < max_length and not bool(done.all()):
        score, parent, following = _extend(_ranked(decoder.step(tokens[:, -1], cache), eos), score, done, eos)
        rows = (first + parent).flatten()
        cache.select(rows)
        tokens = torch.cat([tokens[rows], following.view(-1, 1)], 1)
        done, length = done.gather(1, parent), length.gather(1, parent)
        length = length + ~done
        done = done | (following == eos) | score.isneginf()
    best = (score / length.clamp(min=1) ** length_penalty).argmax(1, keepdim=True)
    return _pack(tokens[(first + best).flatten()], 1 + length.gather(1, best).flatten())


@torch.no_grad()
def nucleus(
    decoder: Decoder, context: Packed, bos: int, eos: int, draws: Tensor, top_p: float, temperature: float = 1.0
) -> Packed:
    """Sample each token among the most probable ones that together have the probability `top_p` (arXiv 1904.09751).

    Args:
        decoder: the decoder that predicts the next token.
        context: (N, D') audio tokens of B clips.
        bos: the token that begins a caption.
        eos: the token that ends a caption.
        draws: (B, T - 1) uniform numbers from 0 to below 1, one per token; T is the maximal number of tokens, `bos` and
            `eos` included; a caption that reaches it may lack `eos`.
        top_p: above 0; 1 samples among all tokens, and a very small one equals `greedy`.
        temperature: divides the logits.

    Returns:
        Tokens of B captions, int64, each `bos ... eos`. The caption of a clip depends on its own draws alone.
    """
    cache = decoder.begin(context)
    draws = draws.to(context.values.device)
    tokens = context.lengths.new_full((len(context), 1), bos, dtype=torch.int64)
    lengths = torch.ones_like(context.lengths)
    done = torch.zeros_like(lengths, dtype=torch.bool)
    while tokens.shape[1] <= draws.shape[1] and not bool(done.all()):
        logits = _ranked(decoder.step(tokens[:, -1], cache), eos)
        following = _drawn(logits, draws[:, tokens.shape[1] - 1], top_p, temperature)
        tokens = torch.cat([tokens, following[:, None]], 1)
        lengths = lengths + ~done
        done = done | (following == eos)
    return _pack(tokens, lengths)


def _ranked(logits: Tensor, eos: int) -> Tensor:
    """Let tokens whose logits are not finite rank last; where none is finite, the caption ends. (B, V) -> (B, V)."""
    finite = logits.isfinite()
    logits = logits.masked_fill(~finite, -torch.inf)
    logits[:, eos] = logits[:, eos].masked_fill(~finite.any(1), 0.0)
    return logits


def _drawn(logits: Tensor, draws: Tensor, top_p: float, temperature: float) -> Tensor:
    """Sample a token of each row, (B, V) logits and (B,) uniform numbers -> (B,) int64."""
    # In double precision, since single rounds sums of many small probabilities.
    probabilities, order = (logits.double() / temperature).softmax(1).sort(dim=1, descending=True, stable=True)
    reached = probabilities.cumsum(1)
    kept = (reached - probabilities) < top_p  # the first is always kept
    total = (probabilities * kept).sum(1, keepdim=True)
    place = (reached <= draws[:, None] * total).sum(1, keepdim=True)
    place = torch.minimum(place, kept.sum(1, keepdim=True) - 1)  # where rounding left the last one short
    return order.gather(1, place).squeeze(1)


def _extend(logits: Tensor, score: Tensor, done: Tensor, eos: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the K best continuations of K beams.

    Args:
        logits: (B K, V) of the next token.
        score: (B, K) log-probabilities of the beams.
        done: (B, K) bool, the complete beams, which continue with `eos` at no cost.
        eos: the token that ends a caption.

    Returns:
        For each continuation its log-probability, its beam and its new token, (B, K) each.
    """
    vocabulary = logits.shape[1]
    added = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1).view(*score.shape, vocabulary)
    stay = torch.full_like(added[0, 0], -torch.inf)
    stay[eos] = 0
    total = score[:, :, None] + torch.where(done[:, :, None], stay, added)
    best, place = total.flatten(1).topk(score.shape[1], dim=1)
    return best, place // vocabulary, place % vocabulary


def _pack(tokens: Tensor, lengths: Tensor) -> Packed:
    """Pack the first `lengths[i]` tokens of row i: (B, T) and (B,) -> packed."""
    kept = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return Packed(tokens[kept], lengths.to(torch.int32))
