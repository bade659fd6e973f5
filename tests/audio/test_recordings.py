"""Recordings of every type that users have: taken, or refused with a message that says what to do."""

import io
from os import PathLike, fspath
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from slap.audio.reader import AudioError, read
from slap.audio.recordings import name_of, recordings, source
from slap.audio.sources import Segment
from slap.core.errors import UserError

RATE = 16_000


@pytest.fixture
def tone(tmp_path, monkeypatch):
    """A file of stereo sound, in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 2)), RATE)
    return tmp_path / "a.wav"


def samples(audio, **options):
    """The samples of the recordings that were passed."""
    found = recordings(audio, **options)
    return [np.concatenate(list(source(item, i, RATE).blocks())) for i, item in enumerate(found)]


class Decoder:
    """As torchcodec's AudioDecoder."""

    def __init__(self, path):
        self.path, self.metadata = path, SimpleNamespace(duration_seconds=None)

    def get_all_samples(self):
        data, rate = soundfile.read(self.path, dtype="float32", always_2d=True)
        return SimpleNamespace(data=torch.tensor(data.T.copy()), sample_rate=rate)


class Odd(PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return fspath(self.path)


def test_one_recording_of_each_type(tone):
    data, rate = soundfile.read(tone, dtype="float32")
    expected = read(tone, RATE)
    with tone.open("rb") as file:
        for audio in (
            str(tone), tone, Odd(tone), "~/a.wav", Path("~/a.wav"), Segment(str(tone)),
            file, io.BytesIO(tone.read_bytes()),
            (data, rate), (data.T, rate), (torch.tensor(data), np.int64(rate)), torch.tensor(data.T),
            (data[::-1][::-1], rate), (data.astype(">f4"), rate), (data.astype(np.longdouble), rate),
            {"array": data, "sampling_rate": rate, "path": None},
            {"path": str(tone)}, {"path": "~/a.wav", "bytes": None},
            {"path": "other.wav", "bytes": tone.read_bytes()}, Decoder(tone), Decoder(tone).get_all_samples(),
        ):  # fmt: skip
            (found,) = samples(audio)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert not file.closed


def test_arrays_that_cannot_be_written_to_are_taken_without_a_warning():
    array = np.full(100, 0.25, np.float32)
    array.flags.writeable = False
    assert samples((array, RATE))[0].tolist() == array.tolist()


def test_files_that_cannot_be_sought_are_read(tone):
    class Pipe(io.RawIOBase):
        rest = io.BytesIO(tone.read_bytes())

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.rest.readinto(buffer)

    np.testing.assert_array_equal(samples(io.BufferedReader(Pipe()))[0], read(tone, RATE))


def test_several_recordings_in_any_iterable(tone):
    paths = [str(tone), str(tone), str(tone)]
    for audio in (
        paths, tuple(paths), tuple(paths[:2]), np.array(paths), np.array(paths, object), (path for path in paths),
        iter(paths), map(Path, paths), dict.fromkeys(map(str, range(3)), paths[0]).values(), {paths[0]: 1}.keys(),
        ((np.zeros(5), RATE), (np.zeros(5), RATE)), (torch.ones(4), torch.ones(4)), [{"path": paths[0]}] * 3,
    ):  # fmt: skip
        count = len(audio) if hasattr(audio, "__len__") else 3
        assert len(samples(audio)) == count
    assert samples([]) == []


def test_a_batch_is_recordings_and_channels_are_one():
    array = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 1600)).astype(np.float32)
    tensor = torch.tensor(array)
    for audio in (tensor, (array, RATE), {"array": array, "sampling_rate": RATE}):
        rows = samples(audio, batch=True)
        assert [row.tolist() for row in rows] == array.tolist()
        (mean,) = samples(audio, channels=True)
        np.testing.assert_allclose(mean, array.mean(0), rtol=0, atol=1e-7)
        with pytest.raises(AudioError, match=r"recording 0 has shape \(4, 1600\).*pass batch=True or channels=True"):
            samples(audio)
    with pytest.raises(AudioError, match="batch=True or channels=True"):
        samples(tensor.T)
    assert len(samples([tensor, (array.T, RATE)], channels=True)) == 2
    stereo = samples(tensor.view(2, 2, 1600), batch=True)
    np.testing.assert_allclose(stereo[1], array[2:].mean(0), rtol=0, atol=1e-7)
    assert len(samples(torch.zeros(1, 1600) + 0.1)[0]) == len(samples(torch.zeros(1600, 1) + 0.1)[0]) == 1600


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (torch.zeros(4, 9), {"batch": True, "channels": True}, "give one of them"),
        (torch.zeros(9), {"batch": True}, r"an array of shape \(9,\)"),
        (np.zeros((4, 9)), {"batch": True}, r"or \(array, rate\)"),
        ([torch.zeros(9)], {"batch": True}, "a list of recordings needs no batch=True"),
        ({"a.wav", "b.wav"}, {}, "a set of recordings has no order"),
    ],
)
def test_what_cannot_be_several_recordings(audio, options, message):
    with pytest.raises(UserError, match=f"(?i){message}"):
        samples(audio, **options)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ((np.array(["a", "b"]), RATE), "recording 0 is no array of numbers but one of <U1"),
        ((np.array([None, 1.0]), RATE), "no array of numbers but one of object"),
        ((np.zeros(5, complex), RATE), "no array of numbers but one of complex128"),
        ((np.zeros(5, bool), RATE), "no array of numbers but one of bool"),
        ((torch.zeros(5, dtype=torch.complex64), RATE), r"holds complex64; samples may be"),
        ((torch.zeros(5, dtype=torch.bool), RATE), r"holds bool"),
        ((np.float32(0.5), RATE), r"has shape \(\)"),
        ((RATE, np.zeros(5)), r"\(rate, array\), as scipy\.io\.wavfile gives; pass \(array, rate\)"),
        (("a.wav", RATE), "a file knows its rate, so pass the path alone"),
        (np.zeros(5), "an array without its rate; pass a path, .* at 16000 Hz"),
        ([0.1, 0.2], r"recording 0 is a number \(samples\? then pass \(numpy\.asarray\(samples\), rate\)\)"),
        (b"RIFF", r"bytes \(the content of a file\? then pass io\.BytesIO\(content\)\)"),
        ([None], "recording 0 is a NoneType; pass"),
        (None, "recording 0 is a NoneType"),
        (object(), "recording 0 is a object"),
        ({"array": np.zeros(5)}, "an array without its sampling_rate"),
        ({"audio": {"path": "a.wav"}, "label": 1}, "keys audio, label; .* pass its item 'audio'"),
        ({"path": None, "bytes": None}, "keys path, bytes"),
        (io.StringIO("text"), r"is open as text; open it as open\(path, 'rb'\)"),
        (io.BytesIO(b"no audio"), "recording 0 cannot be read as audio"),
        ("nowhere.wav", "there is no file nowhere.wav"),
        ("~no-such-user/a.wav", "there is no file ~no-such-user/a.wav"),
        ("x" * 5000, "^x+ cannot be opened: its path .* is too long"),
    ],
)
def test_what_is_no_recording_is_named(audio, message):
    with pytest.raises(AudioError, match=message):
        samples(audio)


def test_names(tone):
    with tone.open("rb") as file:
        assert name_of(file, 0) == str(tone)
    assert name_of(io.BytesIO(), 3) == "recording 3"
    assert name_of({"path": "a.wav", "bytes": b""}, 3) == "a.wav"
    assert name_of({"path": None, "array": np.zeros(3)}, 3) == "recording 3"
