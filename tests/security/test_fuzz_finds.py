"""What fuzzing found (tests/fuzz/run.py), each by name: inputs that ended in an error which told nobody anything."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lhotse import Recording, SupervisionSegment

from slap.audio.resample import LARGEST_FILTER, MAKING, filter_bytes, ratio
from slap.datamodules import AudioTextData, ManifestError, read_manifest
from slap.datamodules.audio.load import DecodeError, load, mono
from slap.inference.rebuild import for_use
from slap.model.specs import build_objectives

RATE = 8000


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A cut as JSON."""
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    cut = Recording.from_file(tmp_path / "a.wav").to_cut()
    cut.supervisions = [SupervisionSegment("a", cut.recording_id, 0.0, 1.0, text="a sound")]
    return cut.to_dict()


def refused(folder: Path, record: dict[str, Any]) -> str:
    (folder / "m.jsonl").write_text(json.dumps(record))
    with pytest.raises(ManifestError, match=r"m\.jsonl, line 1: ") as caught:
        read_manifest(folder / "m.jsonl")
    return str(caught.value)


def test_the_cut_is_good_as_it_is(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps(record))
    assert len(read_manifest(tmp_path / "m.jsonl")) == 1


@pytest.mark.parametrize("path", [5, None, True, 1.5, {}])
def test_a_path_that_is_no_text(tmp_path: Path, record: dict[str, Any], path: Any) -> None:
    record["recording"]["sources"][0]["source"] = path
    assert "not a Lhotse cut" in refused(tmp_path, record)


@pytest.mark.parametrize("channels", [5, [], ["0"], None, {"0": 0}])
def test_channels_that_are_no_list_of_numbers(tmp_path: Path, record: dict[str, Any], channels: Any) -> None:
    for owner, name in ((record["recording"], "channel_ids"), (record["recording"]["sources"][0], "channels")):
        kept, owner[name] = owner[name], channels
        if not (name == "channel_ids" and channels is None):  # then Lhotse takes those of the sources
            refused(tmp_path, record)
        owner[name] = kept


@pytest.mark.parametrize("seconds", [10**400, 1e300, 2e9, -(10**400)])
def test_durations_beyond_all_reason(tmp_path: Path, record: dict[str, Any], seconds: float) -> None:
    """Whole numbers in JSON may be too large for a float, and floats for a number of samples."""
    refused(tmp_path, {**record, "duration": seconds})
    refused(tmp_path, {**record, "start": 0.0, "recording": {**record["recording"], "num_samples": 0}})


@pytest.mark.parametrize("name", ["start", "offset", "duration"])
def test_seconds_of_a_table_beyond_all_reason(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    known = "start" if name == "offset" else name
    assert f"`{known}` must be a number of seconds" in refused(
        tmp_path, {"audio": "a.wav", "caption": "x", name: 10**400}
    )
    refused(tmp_path, {"audio": "a.wav", "caption": "x", name: -1e300})


@pytest.mark.parametrize("offset", [10**400, 1e300])
def test_mixes_of_tracks_beyond_all_reason(tmp_path: Path, record: dict[str, Any], offset: float) -> None:
    track = {"cut": record, "type": "MonoCut"}
    mixed = {"id": "m", "type": "MixedCut", "tracks": [{**track, "offset": 0.0}, {**track, "offset": offset}]}
    refused(tmp_path, mixed)


def test_a_mix_without_tracks(tmp_path: Path) -> None:
    assert "not a Lhotse cut" in refused(tmp_path, {"id": "m", "type": "MixedCut", "tracks": []})


@pytest.mark.parametrize("megabytes", [float("inf"), float("nan"), 1e308, 0, -1, "9", [1]])
def test_a_cap_that_is_no_number_of_bytes(megabytes: Any) -> None:
    with pytest.raises(ValueError, match="max_decoded is a number of MB above 0, got"):
        AudioTextData("a.csv", max_decoded=megabytes)


@pytest.mark.parametrize("weight", [10**400, -(10**400), float("inf"), float("nan"), "1", True])
def test_a_weight_that_no_float_can_be(weight: Any) -> None:
    with pytest.raises(ValueError, match="the weight of objective 'contrastive' must be a finite number"):
        build_objectives({"contrastive": {"weight": weight}})


@pytest.mark.parametrize("channels", [1, 2])
def test_a_rate_that_took_gigabytes_in_training(tmp_path: Path, channels: int) -> None:
    """26 kB of stereo at 306,244 Hz took 10 GB: what is averaged first was not weighed."""
    soundfile.write(tmp_path / "a.wav", np.full((4410, channels), 0.1), 306_244)
    cut = mono(Recording.from_file(tmp_path / "a.wav").to_cut(), 16000)
    near = ratio(306_244, 16_000)
    needed = MAKING * filter_bytes(near.denominator, near.numerator)
    assert needed < 2**29
    assert len(load(cut)) == cut.num_samples == 230
    with pytest.raises(DecodeError, match=r"wrong_rate: to resample .*a\.wav by \d+/\d+ takes \d+ MB, but only \d+ MB"):
        load(cut, needed - 1)


@pytest.mark.parametrize("wanted", [8000, 16000, 48000])
def test_a_rate_that_took_gigabytes_is_approximated(wanted: int) -> None:
    """A filter for 306,244 Hz had 2,000 rows of 38,000 numbers."""
    rates = [306_244, 44_057, 44_101, 767_999, 101, 7919, 96_001, *range(100, 768_000, 7919)]
    for rate in rates:
        near = ratio(rate, wanted)
        assert near.numerator * near.denominator <= LARGEST_FILTER
        assert abs(float(near) * rate / wanted - 1) < 2e-5
    for rate in (8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000):
        assert ratio(rate, wanted) == Fraction(wanted, rate)  # usual rates are taken as they are


GOOD: dict[str, Any] = {"audio": {"name": "x"}, "text": {"name": "x"}, "embedding_dim": 4, "objectives": {}}


@pytest.mark.parametrize(
    "arguments",
    [
        None, 1.5, [], {}, {**GOOD, "audio": None}, {**GOOD, "audio": {"name": []}}, {**GOOD, "text": {"name": {}}},
        {**GOOD, "text": {}}, {**GOOD, "objectives": [1]}, {**GOOD, "embedding_dim": "4"}, {**GOOD, "audio": {1: 2}},
    ],
)  # fmt: skip
def test_arguments_of_a_model_that_are_none(arguments: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model's arguments are damaged: "):
        for_use(arguments)
    from slap import load

    torch.save({"hyper_parameters": arguments, "state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="the model's arguments are damaged: "):
        load(tmp_path / "a.ckpt")
