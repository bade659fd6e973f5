"""A model in bfloat16: weights are cast once, at loading, and what comes out stays close."""

import numpy as np
import pytest
import soundfile
import torch

import slap
from slap.cli.main import main


@pytest.fixture(scope="module")
def full(tiny_checkpoint):
    return slap.load(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="module")
def half(tiny_checkpoint):
    return slap.load(tiny_checkpoint, device="cpu", dtype="bfloat16")


def clips(count=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(8000 * (i + 1), generator=generator) - 0.5 for i in range(count)]


def test_weights_are_cast_once_and_single_numbers_and_spectrograms_are_not(half):
    network = half.backend.network
    assert {weights.dtype for weights in network.parameters() if weights.dim()} == {torch.bfloat16}
    assert {weights.dtype for weights in network.parameters() if not weights.dim()} <= {torch.float32}
    assert network.audio.logmel.bank.dtype == torch.float32


def test_embeddings_are_float32_of_length_1_and_close(full, half):
    for one, other in (
        (full.embed_audio(clips()), half.embed_audio(clips())),
        (full.embed_text("a"), half.embed_text("a")),
    ):
        assert other.dtype == torch.float32
        assert not torch.equal(one, other)
        torch.testing.assert_close(other.norm(dim=1), torch.ones(len(other)))
        assert torch.cosine_similarity(one, other).min() > 0.99


def test_the_same_alone_and_among_others(half):
    together = half.embed_audio(clips())
    alone = torch.cat([half.embed_audio(clip) for clip in clips()])
    assert torch.cosine_similarity(together, alone).min() > 0.999


def test_it_has_another_name_since_its_embeddings_differ(full, half, tiny_checkpoint):
    assert half.name != full.name
    assert slap.load(tiny_checkpoint, device="cpu", dtype=torch.float32).name == full.name


def test_probabilities_are_of_the_same_scale(full, half):
    assert half.calibration == full.calibration


def test_captions_and_frames_work(half):
    assert isinstance(half.caption(clips(1))[0], str)
    assert half.frames(clips(1)[0], "rain", hop=0.16).similarity.isfinite().all()


def test_saved_it_stays_what_it_is(half, tmp_path):
    half.save_pretrained(tmp_path / "saved", allow_collapsed=True)
    again = slap.load(tmp_path / "saved", device="cpu", dtype="bfloat16")
    assert torch.equal(again.embed_audio(clips()), half.embed_audio(clips()))


@pytest.mark.parametrize("dtype", ["float16", "double", torch.int8])
def test_other_types_are_errors(tiny_checkpoint, dtype):
    with pytest.raises(ValueError, match=r"dtype must be one of float32, bfloat16; got"):
        slap.load(tiny_checkpoint, device="cpu", dtype=dtype)


@pytest.mark.parametrize("there", [True, False])
def test_a_processor_that_is_slow_in_it_is_told(there, tiny_checkpoint, monkeypatch, caplog):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": there, "cpu_name": "bf16"})
    slap.load(tiny_checkpoint, device="cpu", dtype="bfloat16")
    assert ("has no bfloat16 instructions, so float32 is faster" in caplog.text) is not there
    caplog.clear()
    slap.load(tiny_checkpoint, device="cpu")
    assert not caplog.text


def test_the_command_line_takes_it(tiny_checkpoint, half, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 16000), 16000, subtype="FLOAT")
    table = tmp_path / "table.parquet"
    assert (
        main(["embed", str(tiny_checkpoint), str(tmp_path / "a.wav"), "--out", str(table), "--dtype", "bfloat16"]) == 0
    )
    found = torch.tensor(parquet.read_table(table)["embedding"].to_pylist())
    assert torch.equal(found, half.embed_audio(tmp_path / "a.wav"))
