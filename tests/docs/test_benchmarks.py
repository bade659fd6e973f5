"""What the benchmarks rest on: the same clips each time, operations counted right, comparisons that say something."""

import json
from pathlib import Path

import pytest
import torch

from slap.core.packed import Packed
from slap.model.network import Network

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture
def network():
    torch.manual_seed(0)
    nano = {"name": "transformer", "size": "nano"}
    return Network(nano, nano, {}).eval().requires_grad_(False)


def test_the_workload_is_what_it_says():
    from workload import durations, durations_of, waveforms

    lengths = durations(2000)
    assert lengths == durations(2000)
    assert lengths != durations(2000, seed=1)
    assert (min(lengths), max(lengths)) == (0.5, 30.0)
    inner = torch.tensor([one for one in lengths if 0.5 < one < 30]).log()
    assert inner.median() == pytest.approx(1.6, abs=0.1)
    assert 60 < sum(durations_of(100)) <= 100
    assert [len(clip) for clip in waveforms([0.5, 1.0])] == [8000, 16000]


@pytest.mark.parametrize("window", [None, 0, 2, 5, 24])
def test_pairs_that_see_each_other(window):
    from flops import pairs

    sizes = [1, 2, 3, 7, 40]
    seen = sum(window is None or abs(i - j) <= window // 2 for n in sizes for i in range(n) for j in range(n))
    assert pairs(sizes, window) == seen


def test_operations_are_those_that_torch_counts(network):
    """Of one clip whose length is a whole number of blocks nothing is padded but the keys at its ends."""
    import flops
    from torch.utils.flop_counter import FlopCounterMode

    patches = network.audio.patchify(Packed.pack([torch.zeros(16_000 * 3)]))
    linear = FlopCounterMode(display=False)
    with linear:
        network.audio_pool(network.audio(patches))
    counted = linear.get_flop_counts()["Global"][torch.ops.aten.mm]
    blocks = network.audio.blocks
    attention = sum(4 * network.audio.width * flops.pairs(patches.sizes, b.attention.window) for b in blocks)
    attention += 4 * network.audio.width * sum(patches.sizes)  # the pooling's
    assert flops.encode(network, patches.sizes) == counted + attention


def test_the_padded_encoder_is_the_packed_one(network):
    import padded

    patches = network.audio.patchify(Packed.pack([torch.randn(n) * 0.1 for n in (16_000, 40_000, 3000)]))
    expected = network.audio_pool(network.audio(patches))
    torch.testing.assert_close(padded.embed(network, patches), expected, rtol=0, atol=1e-5)


def test_aims_are_judged_and_what_was_not_run_says_why():
    from rows import Row

    assert Row("a", ratio=0.9, at_least=0.85).verdict == "yes"
    assert Row("a", ratio=0.8, at_least=0.85).verdict == "no"
    assert Row("a", ratio=0.06, at_most=0.05).shown()["met"] == "no"
    assert Row.skipped("a", "it needs something").shown()["met"] == "not run: it needs something"


def test_comparing_goes_by_ratio_and_by_name_without_figures(tmp_path, capsys):
    from bench import compare

    machine = {"date": "today"}
    for name, what, ratio in (("old.json", "encode (12 audio s/s)", 0.8), ("new.json", "encode (20 audio s/s)", 0.4)):
        rows = [{"what": what, "ratio": ratio}, {"what": name, "ratio": ""}]
        (tmp_path / name).write_text(json.dumps({"machine": machine, "rows": rows}))
    assert compare(tmp_path / "new.json", tmp_path / "old.json") == 0
    assert "| encode (20 audio s/s) | 0.8 | 0.4 | 0.5 |" in capsys.readouterr().out
    assert compare(tmp_path / "none.json", tmp_path / "old.json") == 2
    assert "make bench" in capsys.readouterr().err
