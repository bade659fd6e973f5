"""The two small public corpora: held-out clips, and captions."""

from pathlib import Path

import pytest

from slap.datamodules.corpora.digits_and_sounds import digits


@pytest.fixture
def folder(tmp_path) -> Path:
    """Make empty files: only their names are read."""
    for speaker in ("ann", "bob"):
        for index in (0, 4, 5, 40):
            (tmp_path / f"3_{speaker}_{index}.wav").touch()
    return tmp_path


def test_the_first_five_recordings_of_each_speaker_are_held_out(folder):
    held_out = {clip.id for clip, out in digits(folder) if out}
    assert held_out == {f"fsdd/3_{speaker}_{index}" for speaker in ("ann", "bob") for index in (0, 4)}


def test_a_speaker_is_held_out_whole_and_alone(folder):
    held_out = {clip.id for clip, out in digits(folder, "bob") if out}
    assert held_out == {f"fsdd/3_bob_{index}" for index in (0, 4, 5, 40)}


def test_nobody_is_asked_for_a_speaker_whom_training_never_hears(folder):
    trained = [clip for clip, out in digits(folder, "bob") if not out]
    assert trained
    assert not any("bob" in caption for clip in trained for caption in clip.captions)
    assert {task for clip, _ in digits(folder, "bob") for task in clip.labels} == {"digit"}
    assert {task for clip, _ in digits(folder) for task in clip.labels} == {"digit", "speaker_digit"}


def test_an_unknown_speaker_is_an_error_that_lists_them(folder):
    with pytest.raises(ValueError, match=r"no speaker 'eve'.*there are: ann, bob"):
        list(digits(folder, "eve"))
