"""Scans of folders: what is audio by its name, and what is passed over, with the reason."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slap.audio.scan import HIDDEN, LINK, NO_SUFFIX, PassedOver, scan, why_not
from slap.cli.inputs import inputs
from slap.cli.main import main
from slap.datamodules.augment.sound_bank import SoundBank


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sounds, and nine things that are passed over."""
    (tmp_path / "elsewhere").mkdir()
    top = tmp_path / "sounds"
    (top / "dog").mkdir(parents=True)
    (top / ".cache").mkdir()
    for name in ("dog/a.WAV", "dog/b.webm", ".cache/c.wav", "._a.wav"):
        (top / name).touch()
    for name in ("a.txt", "b.TXT", "dog/c.pdf", "LICENSE", "talk by Dr. No, part one", "a.wav.part"):
        (top / name).touch()
    (top / "more").symlink_to(tmp_path / "elsewhere")
    return top


def test_what_is_passed_over_is_counted_by_reason(folder: Path) -> None:
    passed = PassedOver()
    assert [file.path for file in scan(folder, passed.add)] == ["dog/a.WAV", "dog/b.webm"]
    assert passed.counts == {".txt": 2, NO_SUFFIX: 2, HIDDEN: 2, ".pdf": 1, ".part": 1, LINK: 1}
    assert str(passed).startswith("no suffix (2), ") or ".txt (2)" in str(passed)


def test_one_line_names_the_most_frequent_reasons() -> None:
    passed = PassedOver()
    for number in range(1, 10):
        for _ in range(number):
            passed.add(f".x{number}", "")
    assert str(passed) == ".x9 (9), .x8 (8), .x7 (7), .x6 (6), .x5 (5), .x4 (4), others (6)"
    assert not PassedOver()


@pytest.mark.parametrize("name", ["a\x1b[2J", "a.\x1b[2J", "a.\udcff", "a.", ".", "a.b c"])
def test_a_reason_holds_nothing_of_a_strange_name(name: str) -> None:
    assert why_not(name) in (NO_SUFFIX, HIDDEN)


@pytest.mark.parametrize("target", ["nothing.wav", "a.wav"])
def test_a_link_that_leads_nowhere_is_named_by_those_who_read(tmp_path: Path, target: str) -> None:
    (tmp_path / "a.wav").symlink_to(target)  # to itself too
    assert [(file.path, file.size) for file in scan(tmp_path)] == [("a.wav", 0)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_refused(folder: Path) -> None:
    (folder / "dog").chmod(0)
    with pytest.raises(PermissionError):
        list(scan(folder))


def test_commands_tell_what_they_pass_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(inputs([str(folder)])) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(ValueError, match="there is no audio in"):
        inputs([str(folder / "more")])
    (folder / "more" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"there is no audio in .*, only .txt \(1\); files that end in .wav, "):
        SoundBank(folder / "more")


def test_prepare_reports_what_it_passes_over(folder: Path, tmp_path: Path) -> None:
    soundfile.write(folder / "dog" / "a.WAV", np.full(800, 0.1), 8000)
    assert main(["prepare", "folder", str(folder), str(tmp_path / "out"), "--workers", "0"]) == 0
    left_out = json.loads((tmp_path / "out" / "report.json").read_text())["splits"]["all"]["left_out"]
    assert {reason: about["count"] for reason, about in left_out.items()} == {
        "passed over: .txt": 2,
        "passed over: .pdf": 1,
        "passed over: .part": 1,
        "passed over: no suffix": 2,
        "passed over: hidden": 2,
        "passed over: link to a folder": 1,
    }
    assert left_out["passed over: .pdf"]["first"] == [str(folder / "dog" / "c.pdf")]
