"""An index follows its folder, embeds nothing twice, and survives interruptions."""

import os

import numpy as np
import pytest
import soundfile
import torch

from slap.audio.scan import file_id
from slap.core.windows import windows
from slap.search import update as update_module


def counts(report):
    return {
        name: value
        for name in ("added", "changed", "moved", "reused", "removed", "unchanged")
        if (value := getattr(report, name))
    }


def test_a_first_update_reads_everything_and_a_second_one_nothing(sounds):
    for i in range(5):
        sounds.tone(f"deep/er/{i}.wav", 300 * (i + 1))
    sounds.tone("six.FLAC", 2000)
    (sounds.folder / "notes.txt").write_text("no audio")
    assert counts(sounds.update()) == {"added": 6}
    again = sounds.update()
    assert (counts(again), again.embedded) == ({"unchanged": 6}, 0)


def test_long_files_are_indexed_in_the_windows_of_the_rule(sounds):
    sounds.tone("long.wav", 500, seconds=27.3)
    sounds.update()
    rows = sounds.store().rows_of(file_id("long.wav"))
    rate = sounds.model.sample_rate
    expected = windows(int(27.3 * rate), 10 * rate, 5 * rate)
    assert [(round(row.start * rate), round(row.end * rate)) for row in rows] == expected
    assert {row.duration for row in rows} == {int(27.3 * rate) / rate}


def test_rows_hold_the_embeddings_of_the_windows(sounds):
    path = sounds.tone("two.wav", 500, 3000, seconds=8, rate=44_100)
    sounds.update()
    from slap.audio.reader import read

    samples, rate = read(path, sounds.model.sample_rate), sounds.model.sample_rate
    for row in sounds.store().rows_of(file_id("two.wav")):
        window = samples[round(row.start * rate) : round(row.end * rate)]
        np.testing.assert_allclose(row.vector, sounds.model.embed_audio((window, rate))[0], atol=1e-6)
        assert (row.path, row.model, row.size) == ("two.wav", "spectral-1", path.stat().st_size)


def test_changed_moved_copied_touched_and_removed_files(sounds, copy):
    for i in range(6):
        sounds.tone(f"{i}.wav", 300 * (i + 1))
    sounds.update()
    folder = sounds.folder
    sounds.tone("0.wav", 5000)  # changed
    (folder / "1.wav").rename(folder / "moved it's.wav")
    copy(folder / "2.wav", folder / "copy of 2.wav")
    os.utime(folder / "3.wav", (1, 1))
    (folder / "4.wav").unlink()
    report = sounds.update()
    assert counts(report) == {"changed": 1, "moved": 1, "reused": 2, "removed": 1, "unchanged": 2}
    assert report.embedded == 1
    expected = {"0.wav", "2.wav", "3.wav", "5.wav", "moved it's.wav", "copy of 2.wav"}
    assert set(sounds.store().files()) == expected
    assert counts(sounds.update()) == {"unchanged": 6}
    vectors = {name: sounds.store().rows_of(file_id(name))[0].vector for name in expected}
    for name, hz in (("0.wav", 5000), ("moved it's.wav", 600), ("copy of 2.wav", 900)):
        assert vectors[name] @ sounds.model.embed_text([str(hz)])[0].numpy() > 0.9


def test_files_that_swap_their_contents(sounds):
    a, b = sounds.tone("a.wav", 400), sounds.tone("b.wav", 4000, seconds=2)
    sounds.update()
    a.rename(sounds.folder / "c.wav"), b.rename(a), (sounds.folder / "c.wav").rename(b)
    sounds.update()
    row = sounds.store().rows_of(file_id("a.wav"))[0]
    assert row.vector @ sounds.model.embed_text(["4000"])[0].numpy() > 0.9
    assert row.duration == 2.0


def test_bad_files_are_listed_with_reasons_and_do_not_stop_the_others(sounds):
    sounds.tone("good.wav", 440)
    (sounds.folder / "empty.wav").write_bytes(b"")
    (sounds.folder / "junk.flac").write_bytes(b"no audio at all" * 50)
    soundfile.write(sounds.folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(sounds.folder / "nan.wav", np.full(16_000, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    soundfile.write(sounds.folder / "none.wav", np.zeros(0), 16_000)
    (sounds.folder / "cut.flac").write_bytes(sounds.tone("whole.flac", 700, seconds=5).read_bytes()[:9000])
    report = sounds.update()
    assert counts(report) == {"added": 3}
    assert {row.path: row.reason for row in report.bad} == {
        "empty.wav": "empty",
        "junk.flac": "unreadable",
        "silent.wav": "silent",
        "nan.wav": "not_finite",
        "none.wav": "empty",
    }
    assert all(row.detail for row in report.bad)
    ((path, note),) = report.notes
    assert path == "cut.flac"
    assert note.startswith("it was cut short: ")
    assert "of the 5.00 s that its header declares are there" in note


def test_bad_files_are_not_read_again_until_they_change_or_one_asks(sounds, monkeypatch):
    sounds.tone("good.wav", 440)
    (sounds.folder / "a.wav").write_bytes(b"junk")
    sounds.update()
    again = sounds.update()
    assert (counts(again), [row.path for row in again.bad]) == ({"unchanged": 2}, ["a.wav"])
    assert counts(sounds.update(retry=True)) == {"unchanged": 1}
    sounds.tone("a.wav", 900)
    mended = sounds.update()
    assert (counts(mended), mended.bad) == ({"added": 1, "unchanged": 1}, [])
    (sounds.folder / "a.wav").write_bytes(b"junk again")
    assert [row.path for row in sounds.update().bad] == ["a.wav"]
    assert set(sounds.store().files()) == {"good.wav"}
    (sounds.folder / "a.wav").unlink()
    assert sounds.update().bad == []


def test_a_copy_of_a_bad_file_has_its_own_reason(sounds, copy):
    sounds.tone("good.wav", 440)
    soundfile.write(sounds.folder / "s1.wav", np.zeros(16_000), 16_000)
    copy(sounds.folder / "s1.wav", sounds.folder / "s2.wav")
    assert {row.path: row.reason for row in sounds.update().bad} == {"s1.wav": "silent", "s2.wav": "silent"}


def test_two_new_files_with_the_same_bytes_are_embedded_once(sounds, copy):
    sounds.tone("a.wav", 440)
    copy(sounds.folder / "a.wav", sounds.folder / "b.wav")
    report = sounds.update(workers=4)
    assert (counts(report), report.embedded) == ({"added": 1, "reused": 1}, 1)


def test_a_name_that_is_not_utf8_is_listed(sounds):
    sounds.tone("good.wav", 440)
    (sounds.folder / os.fsdecode(b"\xff\xfe.wav")).write_bytes(b"x")
    report = sounds.update()
    assert [(row.path, row.reason) for row in report.bad] == [("\\xff\\xfe.wav", "unreadable")]
    assert counts(sounds.update()) == {"unchanged": 2}


def test_hidden_files_and_links_to_folders_are_passed_over(sounds):
    sounds.tone("good.wav", 440)
    sounds.tone("._good.wav", 440)
    sounds.tone(".trash/old.wav", 440)
    (sounds.folder / "loop").symlink_to(sounds.folder)
    assert counts(sounds.update()) == {"added": 1}


def test_a_folder_without_audio_changes_nothing(sounds):
    path = sounds.tone("a.wav", 440)
    sounds.update()
    path.unlink()
    with pytest.raises(ValueError, match="holds no audio files; nothing was changed"):
        sounds.update()
    assert set(sounds.store().files()) == {"a.wav"}


def test_what_was_embedded_before_an_interruption_is_not_embedded_again(sounds, monkeypatch):
    for i in range(8):
        sounds.tone(f"{i}.wav", 300 * (i + 1), seconds=9)
    monkeypatch.setattr(update_module, "BATCH_SECONDS", 18)
    embed, calls = sounds.model.backend.encode_audio, []

    def interrupted(audio):
        calls.append(len(audio))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(audio)

    sounds.model.backend.encode_audio = interrupted
    with pytest.raises(KeyboardInterrupt):
        sounds.update(workers=1)
    assert len(sounds.store().files()) == 4
    sounds.model.backend.encode_audio = embed
    rest = sounds.update()
    assert (counts(rest), rest.embedded) == ({"added": 4, "unchanged": 4}, 4)


def test_commits_happen_along_the_way(sounds, monkeypatch):
    for i in range(6):
        sounds.tone(f"{i}.wav", 300 * (i + 1))
    monkeypatch.setattr(update_module, "COMMIT_ROWS", 2)
    monkeypatch.setattr(update_module, "BATCH_SECONDS", 1)
    seen = []
    embed = sounds.model.backend.encode_audio
    sounds.model.backend.encode_audio = lambda audio: seen.append(len(sounds.store())) or embed(audio)
    sounds.update(workers=1)
    assert seen == [0, 0, 2, 2, 4, 4]


def test_silence_is_found_by_level_and_opposite_phase_is_sound(sounds):
    tone = 0.3 * np.sin(2 * np.pi * 600 * np.arange(16_000) / 16_000)
    for name, samples in {
        "soft.wav": 1e-4 * tone, "offset.wav": np.full(16_000, 0.2), "opposite.wav": np.stack([tone, -tone], 1),
    }.items():  # fmt: skip
        soundfile.write(sounds.folder / name, samples, 16_000, subtype="FLOAT")
    report = sounds.update()
    assert {row.path: row.reason for row in report.bad} == {"soft.wav": "silent", "offset.wav": "silent"}
    assert report.bad[-1].detail.startswith("it is silent (")
    (row,) = sounds.store().rows_of(file_id("opposite.wav"))
    np.testing.assert_allclose(row.vector, sounds.model.embed_audio((tone, 16_000))[0].numpy(), atol=1e-3)


def test_silent_windows_of_a_long_file_are_left_out(sounds):
    rate = sounds.model.sample_rate
    samples = torch.zeros(40 * rate)
    samples[31 * rate : 33 * rate] = 0.1
    soundfile.write(sounds.folder / "gap.wav", samples.numpy(), rate)
    sounds.update()
    assert [(row.start, row.end) for row in sounds.store().rows_of(file_id("gap.wav"))] == [(25, 35), (30, 40)]
