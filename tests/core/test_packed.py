import pickle
from io import BytesIO
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from slap import Batch, Packed
from slap.core.batch import fingerprint


def ragged():
    return Packed.pack([torch.arange(3.0), torch.arange(1.0), torch.arange(4.0)])


def test_what_follows_from_the_lengths():
    packed = ragged()
    assert packed.sizes == (3, 1, 4)
    assert packed.max_length == 4
    assert packed.cu_seqlens.tolist() == [0, 3, 4, 8]
    assert packed.item.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert packed.index.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert [item.tolist() for item in packed.unpack()] == [[0, 1, 2], [0], [0, 1, 2, 3]]


def test_take_repeats_reorders_and_keeps_positions():
    packed = ragged()
    packed = Packed(packed.values, packed.lengths, torch.arange(8)[:, None])
    taken = packed.take(torch.tensor([2, 0, 2]))
    assert taken.sizes == (4, 3, 4)
    assert taken.positions.flatten().tolist() == [4, 5, 6, 7, 0, 1, 2, 4, 5, 6, 7]
    assert packed.take(torch.arange(3)) is packed


def test_take_is_differentiable():
    values = torch.ones(8, requires_grad=True)
    Packed(values, ragged().lengths).take(torch.tensor([2, 2])).values.sum().backward()
    assert values.grad.tolist() == [0, 0, 0, 0, 2, 2, 2, 2]


def test_other_values_share_what_is_derived():
    packed = ragged()
    assert packed.replace(torch.zeros(8, 5)).layout is packed.layout


def test_an_empty_item_keeps_its_place():
    packed = Packed.pack([torch.zeros(0), torch.ones(2)])
    assert packed.item.tolist() == [1, 1]
    assert packed.index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lengths", "positions", "message"),
    [
        (torch.tensor([3, 4], dtype=torch.int32), None, "sum to 7 rows, but values hold 8"),
        (torch.tensor([8]), None, "int32"),
        (torch.tensor([8], dtype=torch.int32), torch.zeros(7, 2), "7 positions for 8 rows"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(lengths, positions, message):
    with pytest.raises(ValueError, match=message):
        Packed(torch.zeros(8), lengths, positions)


def test_an_empty_list_cannot_be_packed():
    with pytest.raises(ValueError, match="empty list"):
        Packed.pack([])


def test_a_batch_pickles_and_moves_whole():
    text = Packed.pack([torch.tensor([1, 2])] * 2)
    keys = fingerprint(["a", "b"])
    batch = Batch(
        ragged(), text, torch.tensor([0, 2]), fingerprint(["x", "y", "z"]), keys, labels={"t": ("u", None, "v")}
    )
    again = pickle.loads(pickle.dumps(batch)).to("cpu")
    assert len(again) == 3
    assert again.audio.sizes == (3, 1, 4)
    assert again.labels == {"t": ("u", None, "v")}
    assert torch.equal(again.caption_key, keys)


def test_between_processes_small_tensors_go_as_bytes_and_waveforms_in_shared_memory():
    """torch asks for each tensor in shared memory through a socket."""
    shared = []

    class Counting(ForkingPickler):
        def reducer_override(self, value):
            if isinstance(value, torch.Tensor):
                shared.append(len(value))
            return NotImplemented

    batch = Batch(Packed.pack([torch.randn(20_000)] * 2), ragged(), torch.arange(3), *[torch.arange(3)] * 2)
    batch.audio.cu_seqlens  # noqa: B018  # what is derived goes along
    Counting(BytesIO(), pickle.HIGHEST_PROTOCOL).dump(batch)
    assert shared == [40_000]
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.audio.values, batch.audio.values)
    assert torch.equal(again.audio.cu_seqlens, batch.audio.cu_seqlens)
    assert torch.equal(again.pairs, batch.pairs)
    assert (again.text.sizes, again.text.values.dtype) == ((3, 1, 4), ragged().values.dtype)
    again.clip[0] = 7  # it may be written to


def test_fingerprints_do_not_change_between_runs():
    assert fingerprint(["a dog barks", ""]).tolist() == [3495832801826945676, -5426141060434712860]
