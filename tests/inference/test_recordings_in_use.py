"""Recordings in use: one bad one costs one, silence is said and gets no label, batches and channels are told apart."""

import io
import logging

import numpy as np
import pytest
import soundfile
import torch

from slap.audio.reader import AudioError
from slap.audio.sources import LazyAudio
from slap.inference.model import Model
from slap.inference.network_backend import NetworkBackend
from slap.inference.stream import WindowJob, run
from slap.testing.tiny import tiny_model
from tests.support.late_video import late_video
from tests.support.sounds import noise

RATE = 8000  # that of the model
LABELS = ["dog", "rain", "man"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model(NetworkBackend(tiny_model(), {}, max_seconds=1.0))


@pytest.fixture
def folder(tmp_path):
    """Four recordings: sound, silence, soft noise below what is heard, and stereo of opposite phase."""
    sound = noise(0.5, RATE)
    for name, samples in {
        "sound.wav": sound,
        "zero.wav": np.zeros(4000),
        "dither.wav": 1e-4 * noise(0.5, RATE),
        "opposite.wav": np.stack([sound, -sound], 1),
    }.items():
        soundfile.write(tmp_path / name, samples, RATE, subtype="FLOAT")
    return tmp_path


def paths(folder):
    return [folder / name for name in ("sound.wav", "zero.wav", "dither.wav", "opposite.wav")]


# -- silence ----------------------------------------------------------------------------------------------------------


def test_silence_has_no_label_and_is_said(model, folder, caplog):
    """Digital silence was "rain", p = 0.82."""
    with caplog.at_level(logging.WARNING):
        found = model.classify(paths(folder), LABELS)
    assert [len(scores) for scores in found] == [3, 0, 0, 3]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder / 'zero.wav'}: it is silent (digital silence; below -70 dBFS nothing is heard)",
        f"{folder / 'dither.wav'}: it is silent (-86 dBFS; below -70 dBFS nothing is heard)",
    ]
    items = {item.index: item for item in model.stream(paths(folder))}
    assert [items[i].silent for i in range(4)] == [False, True, True, False]
    assert [bool(items[i].note) for i in range(4)] == [False, True, True, False]
    assert model.classify([], LABELS) == []


class Certain:
    """A backend that calls every clip rain, in words and by its head."""

    sample_rate, max_seconds, embedding_dim = RATE, 1.0, 2
    no_captions, classes, multi_label = "", ("dog", "rain"), False

    @property
    def heads(self):
        return {"sounds": self}

    def write(self, clips, decoding):
        return ["rain"] * len(clips), torch.ones(len(clips), 2)

    def encode_labels(self, clips, head):
        return torch.tensor([[0.0, 9.0]] * len(clips))


def test_silence_has_no_caption_and_no_classes(folder):
    certain = Model.__new__(Model)
    certain.backend = Certain()
    assert certain.caption(paths(folder)) == ["rain", "", "", "rain"]
    found = certain.label(paths(folder))
    assert [[label.label for label in labels] for labels in found] == [["rain", "dog"], [], [], ["rain", "dog"]]


def test_opposite_phase_is_its_louder_channel(model, folder):
    both = model.embed_audio([folder / "sound.wav", folder / "opposite.wav"])
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=1e-5)


def test_a_silent_part_of_a_recording_is_no_fault(model):
    samples = torch.cat([torch.zeros(20_000), torch.rand(4000) - 0.5])
    (item,) = model.stream(samples)
    assert (item.silent, item.note) == (False, "")


# -- one bad recording costs one --------------------------------------------------------------------------------------


def raising(error):
    def decode(rate):
        raise error

    return LazyAudio("shard.tar: clip", 1.0, decode)


BAD = {
    "an array of texts": (np.array(["a", "b"]), RATE),
    "a ragged array": ([[0.1, 0.2], [0.3]], RATE),
    "a complex tensor": torch.zeros(9, dtype=torch.complex64),
    "a tensor without content": torch.empty(9, device="meta"),
    "an error of a decoder": raising(ValueError("bad huffman code")),
    "an error of the system": raising(PermissionError(13, "Permission denied")),
    "no recording": object(),
    "a closed file": io.BytesIO(),
}
BAD["a closed file"].close()


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_recording_costs_one(model, bad):
    good = torch.rand(800) - 0.5
    items = sorted(model.stream([good, BAD[bad], good]), key=lambda item: item.index)
    assert [item.error is None for item in items] == [True, False, True]
    assert isinstance(items[1].error, AudioError)
    name = "shard.tar: clip" if "error" in bad else "recording 1"
    assert str(items[1].error).startswith(name)
    assert items[1].name == name


def test_a_link_to_itself_and_a_name_that_is_too_long(model, folder):
    (folder / "loop.wav").symlink_to("loop.wav")
    audio = [folder / "loop.wav", folder / ("x" * 300), folder / "sound.wav", folder]
    items = sorted(model.stream(audio), key=lambda item: item.index)
    assert [item.error is None for item in items] == [False, False, True, False]
    for item, path in zip(items, audio, strict=True):
        assert item.name == str(path)
        assert item.error is None or str(path)[:100] in str(item.error)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_a_lack_of_memory_and_an_interruption_are_raised(model, error):
    with pytest.raises(type(error)):
        list(model.stream([raising(error)]))


def test_what_the_model_raises_is_raised(folder):
    def broken(clips):
        raise ValueError("the model is broken")

    with pytest.raises(ValueError, match="the model is broken"):
        list(run(paths(folder), WindowJob(broken, len, RATE, RATE, RATE)))


def test_a_file_that_was_cut_short_is_used_and_noted(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(0.6, RATE), RATE)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: 44 + (len(whole) - 44) // 3])
    (item,) = model.stream(tmp_path / "cut.wav")
    assert item.seconds == 0.2
    assert item.note == "it was cut short: 0.20 of the 0.60 s that its header declares are there"


# -- inputs -----------------------------------------------------------------------------------------------------------


def test_batches_and_channels_in_every_method(model):
    batch = torch.rand(4, 800) - 0.5
    rows = torch.stack([model.embed_audio(row)[0] for row in batch])
    torch.testing.assert_close(model.embed_audio(batch, batch=True), rows)
    assert len(model.classify(batch, LABELS, batch=True)) == model.similarity(batch, "rain", batch=True).shape[0] == 4
    assert len(list(model.stream(batch, batch=True))) == 4
    torch.testing.assert_close(model.embed_audio(batch, channels=True), model.embed_audio(batch.mean(0)))
    assert len(model.classify(batch, LABELS, channels=True)) == 1
    for call in (
        model.embed_audio,
        lambda audio: model.classify(audio, LABELS),
        lambda audio: list(model.stream(audio)),
    ):
        found = None
        try:
            (found,) = call(batch)
            message = str(found.error)
        except AudioError as error:
            message = str(error)
        assert "recording 0 has shape (4, 800)" in message
        assert "batch=True or channels=True" in message


def test_one_recording_is_one_for_streams_too(model, folder):
    """A path was iterated over letter by letter."""
    (item,) = model.stream(str(folder / "sound.wav"))
    assert item.error is None


def test_an_open_file_twice_is_refused(model, folder):
    """Two threads would seek in it."""
    with (folder / "sound.wav").open("rb") as file, (folder / "sound.wav").open("rb") as other:
        items = sorted(model.stream([file, other, file]), key=lambda item: item.index)
    assert [item.error is None for item in items] == [True, True, False]
    assert "the same open file as another recording" in str(items[2].error)


def test_a_generator_is_not_asked_for_all_at_once(model, monkeypatch):
    monkeypatch.setattr("slap.inference.stream.PORTION", 4)
    asked = []
    found = model.stream(asked.append(i) or torch.rand(80) for i in range(12))
    next(found)
    assert asked == [0, 1, 2, 3]
    assert len(list(found)) == 11


# -- the clock of a player --------------------------------------------------------------------------------------------


def test_times_in_a_video_whose_audio_starts_late(model, tmp_path):
    video = late_video(tmp_path / "late.mkv", 0.5 * np.sin(np.arange(3 * RATE)), RATE, late=2.0, seconds=6)
    (item,) = model.stream(video)
    assert (item.begins, item.seconds) == (pytest.approx(2.0, abs=0.01), pytest.approx(3.0, abs=0.01))
