"""Operations on batches: concatenating, splitting, sorting captions.

B clips, C captions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain, pairwise
from typing import Any, TypeVar

import torch

from slap.core.batch import Batch
from slap.core.packed import Layout, Packed
from slap.core.segments import phrases_of

T = TypeVar("T")


def concat(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches on one device: clips and captions keep the order of the batches."""
    if len(batches) == 1:
        return batches[0]
    starts = list(accumulate((len(batch) for batch in batches), initial=0))
    return Batch(
        audio=concat_packed([batch.audio for batch in batches]),
        text=concat_packed([batch.text for batch in batches]),
        clip=torch.cat([batch.clip + start for batch, start in zip(batches, starts, strict=False)]),
        clip_key=torch.cat([batch.clip_key for batch in batches]),
        caption_key=torch.cat([batch.caption_key for batch in batches]),
        pairs=torch.cat([batch.pairs for batch in batches]),
        ids=tuple(chain.from_iterable(batch.ids for batch in batches)),
        captions=tuple(chain.from_iterable(batch.captions for batch in batches)),
        labels=_by_task(batches, [batch.labels for batch in batches]),
        tags=_by_task(batches, [batch.tags for batch in batches]),
        choices=_by_task(batches, [batch.choices for batch in batches]),
        spans=tuple(chain.from_iterable(batch.spans for batch in batches)),
        bad=tuple(chain.from_iterable(batch.bad for batch in batches)),
        source=torch.cat([batch.source for batch in batches]),
        origins=tuple(chain.from_iterable(batch.origins for batch in batches)),
        read=sum(batch.read for batch in batches),
        clip_index=tuple(i + start for batch, start in zip(batches, starts, strict=False) for i in batch.clip_index),
        **_segments_of(batches),
    )


def _segments_of(batches: Sequence[Batch]) -> dict[str, Any]:
    """Return the segments of several batches, and the tokens of their different phrases."""
    if not any(batch.segments for batch in batches):
        return {}
    segments = tuple(chain.from_iterable(batch.segments or (None,) * len(batch) for batch in batches))
    parts = [batch for batch in batches if batch.phrases is not None]
    if not parts:
        return {"segments": segments}
    names = list(chain.from_iterable(phrases_of(batch.segments) for batch in parts))
    place = {text: number for number, text in reversed(list(enumerate(names)))}
    tokens = concat_packed([batch.phrases for batch in parts if batch.phrases is not None])
    return {"segments": segments, "phrases": tokens.take([place[text] for text in phrases_of(segments)])}


def _segments_in(batch: Batch, clips: Sequence[int]) -> dict[str, Any]:
    """Return the segments of some clips of a batch, and the tokens of their different phrases."""
    segments = _chosen(batch.segments, clips)
    if all(known is None for known in segments):
        return {"segments": (), "phrases": None}
    place = {text: number for number, text in enumerate(phrases_of(batch.segments))}
    names = phrases_of(segments)
    tokens = None if batch.phrases is None or not names else batch.phrases.take([place[text] for text in names])
    return {"segments": segments, "phrases": tokens}


def _by_task(
    batches: Sequence[Batch], parts: Sequence[Mapping[str, tuple[T | None, ...]]]
) -> dict[str, tuple[T | None, ...]]:
    """Concatenate what batches have of each task for their clips, None for those of a batch without the task."""
    nothing = [(None,) * len(batch) for batch in batches]
    tasks = dict.fromkeys(chain.from_iterable(parts))
    return {
        task: tuple(chain.from_iterable(part.get(task, none) for part, none in zip(parts, nothing, strict=True)))
        for task in tasks
    }


def concat_packed(parts: Sequence[Packed]) -> Packed:
    """Concatenate packed batches; the result has positions if all of them have."""
    lengths = torch.cat([part.lengths for part in parts])
    positions = [part.positions for part in parts if part.positions is not None]
    layout = Layout(lengths, tuple(chain.from_iterable(part.sizes for part in parts)))
    all_positions = torch.cat(positions) if len(positions) == len(parts) else None
    return Packed(torch.cat([part.values for part in parts]), lengths, all_positions, layout)


def sort_captions(batch: Batch) -> Batch:
    """Sort captions by clip, so that the captions of a clip are next to each other and in the order of the clips."""
    owner = batch.clip_index
    order = sorted(range(len(owner)), key=owner.__getitem__)
    if order == list(range(len(owner))):
        return batch
    chosen = torch.tensor(order).to(batch.clip.device, non_blocking=True)
    return replace(
        batch,
        text=batch.text.take(order),
        clip=batch.clip[chosen],
        clip_index=tuple(owner[i] for i in order),
        caption_key=batch.caption_key[chosen],
        captions=tuple(batch.captions[i] for i in order) if batch.captions else (),
    )


def split(batch: Batch, sizes: Sequence[int]) -> list[Batch]:
    """Split a batch whose captions are sorted, see `sort_captions`, without copying waveforms.

    Args:
        batch: B clips. Labels, questions, spans and bad clips are dropped, since training does not use them.
        sizes: number of clips of each part, B in all.
    """
    owner = batch.clip_index
    parts = []
    for start, stop in pairwise(accumulate(sizes, initial=0)):
        first, last = bisect_left(owner, start), bisect_left(owner, stop)
        clips, captions = slice(start, stop), slice(first, last)
        parts.append(
            Batch(
                items(batch.audio, clips),
                items(batch.text, captions),
                batch.clip[captions] - start,
                batch.clip_key[clips],
                batch.caption_key[captions],
                ids=batch.ids[clips],
                captions=batch.captions[captions],
                source=batch.source[clips],
                clip_index=tuple(clip - start for clip in owner[captions]),
                **_segments_in(batch, range(start, stop)),
            )
        )
    return parts


def items(packed: Packed, chosen: slice) -> Packed:
    """Return consecutive items, as views."""
    start, stop, _ = chosen.indices(len(packed))
    first, size = sum(packed.sizes[:start]), sum(packed.sizes[start:stop])
    rows = slice(first, first + size)
    positions = None if packed.positions is None else packed.positions[rows]
    lengths = packed.lengths[start:stop]
    return Packed(packed.values[rows], lengths, positions, Layout(lengths, packed.sizes[start:stop]))


def even_sizes(clips: int, most: int, least: int = 1) -> list[int]:
    """Return the sizes of parts of at most `most` clips: as few parts and as equal as possible, but at least `least`.

    Example:
        >>> even_sizes(130, 64), even_sizes(0, 64), even_sizes(3, 64, least=2)
        ([44, 43, 43], [0], [2, 1])
    """
    parts = max(-(-clips // most), least, 1)
    return [clips // parts + (i < clips % parts) for i in range(parts)]


def take_clips(batch: Batch, clips: Sequence[int]) -> Batch:
    """Return some clips of a batch, which all its captions belong to.

    Args:
        batch: B clips, C captions.
        clips: numbers of the clips, ascending.
    """
    place = {clip: number for number, clip in enumerate(clips)}
    device = batch.clip_key.device
    rows = torch.tensor(clips, dtype=torch.int64).to(device, non_blocking=True)
    owner = tuple(place[clip] for clip in batch.clip_index)
    return replace(
        batch,
        audio=batch.audio.take(clips),
        clip=torch.tensor(owner, dtype=torch.int64).to(device, non_blocking=True),
        clip_index=owner,
        clip_key=batch.clip_key[rows],
        ids=_chosen(batch.ids, clips),
        labels={task: _chosen(names, clips) for task, names in batch.labels.items()},
        tags={task: _chosen(names, clips) for task, names in batch.tags.items()},
        choices={task: _chosen(captions, clips) for task, captions in batch.choices.items()},
        spans=_chosen(batch.spans, clips),
        source=batch.source[rows],
        **_segments_in(batch, clips),
    )


def without_captions(batch: Batch, clips: Sequence[int]) -> Batch:
    """Return a batch in which some clips have no captions.

    Args:
        batch: B clips, C captions.
        clips: numbers of the clips that lose theirs.
    """
    kept = [number for number, clip in enumerate(batch.clip_index) if clip not in clips]
    rows = torch.tensor(kept, dtype=torch.int64, device=batch.clip.device)
    pairs = torch.isin(batch.pairs[:, 0], batch.clip_key[list(clips)], invert=True)
    return replace(
        batch,
        text=batch.text.take(kept),
        clip=batch.clip[rows],
        clip_index=tuple(batch.clip_index[number] for number in kept),
        caption_key=batch.caption_key[rows],
        captions=_chosen(batch.captions, kept),
        pairs=batch.pairs[pairs],
    )


def _chosen(values: Sequence[T], numbers: Sequence[int]) -> tuple[T, ...]:
    """Return the values with these numbers; none where a batch has none."""
    return tuple(values[number] for number in numbers) if values else ()
