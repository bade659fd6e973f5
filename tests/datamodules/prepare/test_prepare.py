"""`slap prepare`: its report, its manifests, and its continuation after an interruption."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slap.audio.decoders import Header
from slap.cli.main import main
from slap.core.registry import load_module
from slap.datamodules import read_manifest
from slap.datamodules.manifests.clip import Clip
from slap.datamodules.prepare import headers
from slap.datamodules.prepare.headers import Fault, read_header, read_headers
from slap.datamodules.prepare.report import Findings, as_text, draw

TOY = str(Path(__file__).parents[2] / "support" / "my_corpus.py")


@pytest.fixture(autouse=True)
def toy():
    return load_module(TOY)


def beep(path, seconds=0.5, rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros((round(seconds * rate), channels)), rate)


@pytest.fixture
def root(tmp_path):
    """Write a corpus with one clip of each fault."""
    root = tmp_path / "corpus"
    beep(root / "a.wav", 0.5)
    beep(root / "b.flac", 2.0, 44100, 2)
    beep(root / "t1.ogg", 1.0)
    beep(root / "none.wav", 0.0)
    (root / "zero.wav").touch()
    (root / "noise.wav").write_bytes(bytes(range(256)) * 8)
    lines = ["a.wav 0", "b.flac 0", "b.flac 1.5 toy/later", "gone.wav 0", "none.wav 0", "zero.wav 0", "noise.wav 0"]
    lines += ["b.flac 2.5 toy/outside", "b.flac 0 toy/again", "a.wav 0.25 toy/a.wav", "t1.ogg 0", "skip.wav 0"]
    (root / "list.txt").write_text("\n".join(lines))
    return root


def prepare(*arguments):
    return main(["prepare", "toy_list", *map(str, arguments)])


def report(out):
    return json.loads((out / "report.json").read_text())


# -- what is found, and what is written -------------------------------------------------------------------------------


def test_every_fault_is_counted_and_named(root, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(root, out, "--workers", 0) == 0
    train = report(out)["splits"]["train"]
    assert {name: train[name] for name in ("official", "listed", "found", "captions")} == {
        "official": 12, "listed": 10, "found": 3, "captions": 6
    }  # fmt: skip
    faults = {name: train[name] for name in ("missing", "unreadable", "truncated", "empty", "outside", "duplicated")}
    assert {name: fault["count"] for name, fault in faults.items()} == {
        "missing": 1, "unreadable": 1, "truncated": 0, "empty": 2, "outside": 1, "duplicated": 2
    }  # fmt: skip
    assert faults["missing"]["first"] == [f"toy/gone.wav: there is no file {root / 'gone.wav'}"]
    assert [name.split(":")[0] for name in faults["duplicated"]["first"]] == ["toy/again", "toy/a.wav"]
    assert "is toy/b.flac already" in faults["duplicated"]["first"][0]
    assert train["left_out"] == {"not wanted": {"count": 1, "first": ["skip.wav"]}}
    assert train["seconds"] == {"shortest": 0.5, "median": 0.5, "longest": 2.0}
    assert train["sample_rates"] == {"8000": 1, "44100": 2}
    assert train["channels"] == {"1": 1, "2": 2}
    assert train["histogram"] == [[0.5, 2], [2.0, 1]]
    text = capsys.readouterr().out
    assert "listed             10   (published: 12)" in text
    assert "missing             1   (no file where the layout says)\n      toy/gone.wav: " in text
    assert "left out            1   (not wanted)\n      skip.wav" in text
    assert f"--data.train '[{out}/train.jsonl.gz]'" in text
    assert (out / "durations.png").read_bytes().startswith(b"\x89PNG")
    assert report(out)["splits"]["test"]["found"] == 1


def test_the_manifest_holds_the_clips_in_the_lists_order_with_all_that_is_known(root, tmp_path):
    out = tmp_path / "out"
    assert prepare(root, out, "--splits", "train", "--workers", 0) == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "durations.png", "report.json", "train.jsonl.gz", "train.jsonl.gz.index"
    ]  # fmt: skip
    cuts = read_manifest(out / "train.jsonl.gz")
    assert [(cut.id, cut.start, cut.duration, cut.num_channels) for cut in cuts] == [
        ("toy/a.wav", 0.0, 0.5, 1), ("toy/b.flac", 0.0, 2.0, 2), ("toy/later", 1.5, 0.5, 2)
    ]  # fmt: skip
    custom = dict(cuts[0].custom)
    custom.pop("where")
    assert custom == {
        "labels": {"name": "a.wav"}, "tags": {"kinds": ["a", "b"]}, "corpus": "toy_list", "split": "train", "fold": 0,
        "origin": {"freesound": "1"},
    }  # fmt: skip
    captions = [(part.text, part.custom["field"]) for part in cuts[0].supervisions]
    assert captions == [("the sound of a.wav", "template"), ("a sound", "caption")]
    assert cuts[2].load_audio().shape == (2, 22050)


def test_audio_below_out_is_named_relative_to_it_so_that_the_folder_can_move(root, tmp_path):
    assert prepare(root, root / "manifests", "--splits", "test") == 0
    assert prepare(root, root, "--splits", "test") == 0

    def source(path):
        return json.loads(gzip.decompress(path.read_bytes()))["recording"]["sources"][0]["source"]

    assert source(root / "test.jsonl.gz") == "t1.ogg"
    assert source(root / "manifests/test.jsonl.gz") == str(root / "t1.ogg")
    moved = root.rename(tmp_path / "moved")
    assert len(read_manifest(moved / "test.jsonl.gz")) == 1


def test_options_of_the_corpus(root, tmp_path):
    assert prepare(root, tmp_path / "out", "--splits", "test", "--loud", "true") == 0
    assert read_manifest(tmp_path / "out/test.jsonl.gz")[0].supervisions[0].text == "THE SOUND OF T1.OGG"


def test_nothing_found_is_said_and_no_manifest_written(root, tmp_path, capsys):
    (root / "list.txt").write_text("gone.wav 0\ngone2.wav 0\n")
    assert prepare(root, tmp_path / "out") == 1
    assert "no clip was found" in capsys.readouterr().out
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["esc5", "{root}", "out"], "there is no corpus 'esc5'; did you mean 'esc50'? valid are: "),
        ([], "name the corpus first, as in `slap prepare esc50 ROOT OUT`; there are "),
        (["toy_list", "{root}"], "the following arguments are required: out"),
        (["toy_list", "{root}", "out", "--lud", "true"], "--lud true; did you mean '--loud'? valid are: --splits"),
        (["toy_list", "{root}", "out", "--loud", "maybe"], '"loud"'),
        (["toy_list", "{root}", "out", "--splits", "tset"], "no split 'tset' in "),
        (["toy_list", "{root}", "out", "--splits", "tset"], "did you mean 'test'? valid are: train, test"),
        (["toy_list", "{root}/nowhere", "out"], "nowhere; name the one that holds ToyList as published"),
    ],
)
def test_mistakes_are_answered_with_what_is_valid(root, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *(argument.format(root=root) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_lists_corpora_and_the_options_of_one(capsys):
    for arguments, said in ((["--help"], "\n  esc50 "), (["toy_list", "--help"], "after how many clips to behave")):
        with pytest.raises(SystemExit) as stop:
            main(["prepare", *arguments])
        assert stop.value.code == 0
        assert said in capsys.readouterr().out


# -- a second time ----------------------------------------------------------------------------------------------------


def test_a_split_that_is_done_is_not_made_again(root, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(root, out, "--splits", "test") == 0
    before = (out / "test.jsonl.gz").stat().st_mtime_ns
    assert prepare(root, out) == 0  # the other split is made
    assert (out / "test.jsonl.gz").stat().st_mtime_ns == before
    assert "prepared before; --overwrite prepares it again" in capsys.readouterr().out
    assert set(report(out)["splits"]) == {"train", "test"}
    beep(root / "gone.wav")
    assert prepare(root, out, "--overwrite") == 0
    assert report(out)["splits"]["train"]["missing"]["count"] == 0


def test_another_command_does_not_write_into_the_same_folder(root, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(root, out) == 0
    before = (out / "train.jsonl.gz").read_bytes()
    assert prepare(root, out, "--loud", "true") == 2
    assert "'loud': False" in (error := capsys.readouterr().err)
    assert "name another folder, or give --overwrite" in error
    assert (out / "train.jsonl.gz").read_bytes() == before
    assert prepare(root, out, "--loud", "true", "--splits", "test", "--overwrite") == 0
    assert not (out / "train.jsonl.gz").exists()  # it was of the other command
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/train.jsonl.gz").touch()
    assert prepare(root, tmp_path / "mine") == 2
    assert "but no report.json" in capsys.readouterr().err


def test_what_was_read_before_an_interruption_is_not_read_again(root, tmp_path, monkeypatch):
    files = [root / f"{number:02}.wav" for number in range(20)]
    for file in files:
        beep(file, 0.1)
    (root / "list.txt").write_text("\n".join(f"{file.name} 0" for file in files))
    monkeypatch.setattr(headers, "FEW", 1)  # else all of these are listed before the first one is read
    read = []
    monkeypatch.setattr(headers, "read_header", lambda path: read.append(Path(path).name) or read_header(path))
    out = tmp_path / "out"
    command = [root, out, "--splits", "train", "--workers", 0]
    monkeypatch.setattr("my_corpus.ToyList.clips", interrupted(load_module(TOY).ToyList.clips, 12))
    assert prepare(*command) == 130
    assert len(read) == 12
    assert not (out / "train.jsonl.gz").exists()
    monkeypatch.undo()
    monkeypatch.setattr(headers, "read_header", lambda path: read.append(Path(path).name) or read_header(path))
    journal = out / "train.jsonl.gz.headers"
    with journal.open("ab") as file:
        file.write(b'{"path": "/torn')  # as when the machine stops in the middle of writing
    beep(files[3], 0.2)  # changed since
    os.utime(files[3], (1, 1))
    read.clear()
    assert prepare(*command) == 0
    assert read == ["03.wav", *(file.name for file in files[12:])]
    durations = [cut.duration for cut in read_manifest(out / "train.jsonl.gz")]
    assert durations == [0.2 if number == 3 else 0.1 for number in range(20)]
    assert not journal.exists()


def interrupted(clips, after):
    def some(self, split):
        for number, clip in enumerate(clips(self, split)):
            if number == after:
                raise KeyboardInterrupt
            yield clip

    return some


@pytest.mark.slow
def test_ctrl_c_stops_a_parallel_run_that_goes_on_later(root, tmp_path):
    beep(root / "x.wav", 0.1)
    lines = [f"x.wav 0.0{number:05} toy/{number}" for number in range(3000)]
    (root / "list.txt").write_text("\n".join(lines))
    out = tmp_path / "out"
    slow = tmp_path / "slow.py"  # a corpus that takes its time, so that the signal comes in its middle
    slow.write_text(
        "import time, my_corpus\n"
        "clips = my_corpus.ToyList.clips\n"
        "def slowly(self, split):\n"
        "    for number, clip in enumerate(clips(self, split)):\n"
        "        time.sleep(0.01 if number > 1500 else 0)\n"
        "        yield clip\n"
        "my_corpus.ToyList.clips = slowly\n"
    )
    command = [sys.executable, "-m", "slap", "prepare", "toy_list", str(root), str(out), "--splits", "train"]
    command += ["--workers", "2", "--plugins", TOY]
    journal = out / "train.jsonl.gz.headers"
    # Whoever runs the tests in the background may ignore the signal, and children inherit that.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        [*command, str(slow)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    ) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (journal.is_file() and journal.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted; the same command continues from here" in printed
    assert "Traceback" not in errors
    kept = len(journal.read_bytes().splitlines())
    assert 0 < kept < 3000
    assert prepare(root, out, "--splits", "train", "--workers", 0) == 0
    assert prepare(root, tmp_path / "whole", "--splits", "train", "--workers", 0) == 0
    assert (out / "train.jsonl.gz").read_bytes() == (tmp_path / "whole/train.jsonl.gz").read_bytes()
    assert report(out)["splits"] == report(tmp_path / "whole")["splits"]


# -- headers ----------------------------------------------------------------------------------------------------------


def test_headers_of_processes_come_in_order(tmp_path):
    beep(tmp_path / "a.wav", 0.5)
    beep(tmp_path / "b.wav", 0.25, 16000, 2)
    names = [str(tmp_path / name) for number in range(400) for name in ("a.wav", "b.wav", "gone.wav")]
    read = list(read_headers(iter(names), str, tmp_path / "journal", workers=2))
    assert [item for item, _ in read] == names
    expected = [Header(4000, 8000, 1), Header(4000, 16000, 2), Fault("missing", f"there is no file {names[2]}")]
    assert [header for _, header in read] == expected * 400


def test_processes_that_read_headers_import_nothing_heavy():
    code = "import sys, slap.datamodules.prepare.headers\n"
    code += "print([name for name in ('torch', 'lhotse') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_length_is_that_of_what_can_be_decoded(tmp_path):
    beep(tmp_path / "cut.wav", 1.0)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:3000])
    note = "it was cut short: 0.18 of the 1.00 s that its header declares are there"
    assert read_header(str(tmp_path / "cut.wav")) == Header((3000 - 44) // 2, 8000, 1, note=note)
    soundfile.write(tmp_path / "x.flac", np.zeros(8000), 8000)
    endless = bytearray((tmp_path / "x.flac").read_bytes())
    endless[21] &= 0xF0  # of the 36 bits that count the samples, as an encoder writes it that does not know
    endless[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(endless)
    assert read_header(str(tmp_path / "x.flac")) == Header(8000, 8000, 1)


# -- the report -------------------------------------------------------------------------------------------------------


def test_the_histogram_shows_empty_ranges_and_rounds_bars_up():
    findings = Findings(None)
    for duration, count in ((0.0001, 1), (0.02, 100), (0.049, 1)):
        findings.durations.extend([duration] * count)
    record = findings.record({})
    assert record["histogram"] == [[0.001, 1], [0.02, 100], [0.03, 1]]
    bars = [line.split("to", 1) for line in as_text("title", record).partition("seconds")[2].splitlines()[1:]]
    begins = ["0.001", "0.0015", "0.002", "0.003", "0.005", "0.007", "0.01", "0.015", "0.02", "0.03"]
    assert [begin.strip() for begin, _ in bars] == begins
    assert [rest.split()[1:] for _, rest in bars] == [["1", "#"], *[["0"]] * 7, ["100", "#" * 40], ["1", "#"]]


def test_the_plot_has_a_panel_for_each_split_with_clips():
    found, none = Findings(3), Findings(None)
    found.durations.extend([1.0, 2.5, 9.0])
    records = {"train": found.record({}), "val": none.record({}), "test": found.record({})}
    panels = draw("toy", records).axes
    assert [axes.get_title().split(",")[0] for axes in panels] == ["train: 3 clips", "test: 3 clips"]
    assert [round(bar.get_height()) for bar in panels[0].patches if bar.get_height()] == [1, 1, 1]


def test_captions_and_names_that_are_no_text_are_left_out_and_told(tmp_path, capsys):
    """Half a character in one of many captions used to stop the writing of the manifest."""
    beep(tmp_path / "root" / "a.wav", 0.5)
    captions = {"good": "a beep", "half": "half \ud83d", "nul": "a\0b", "bidi": "a \u202ebeep", "long": "x " * 500_000}
    clips = [
        {"id": name, "audio": "a.wav", "caption": text, "start": 0.05 * i}
        for i, (name, text) in enumerate(captions.items())
    ]
    (tmp_path / "root" / "all.jsonl").write_text("\n".join(json.dumps(clip) for clip in clips))
    assert main(["prepare", "jsonl", str(tmp_path / "root"), str(tmp_path / "out")]) == 0
    (split,) = report(tmp_path / "out")["splits"].values()
    assert split["found"] == 1
    capsys.readouterr()


def test_a_name_with_nul_in_it_has_no_header(tmp_path):
    assert read_header(f"{tmp_path}/a\0b.wav") == Fault("unreadable", "embedded null byte")


def test_what_a_corpus_lists_is_text(tmp_path):
    from slap.datamodules.prepare.split import _no_text

    clip = {"id": "a", "audio": "a.wav", "captions": ["a beep"]}
    assert _no_text(Clip(**clip)) is None
    for wrong in ({"id": "\ud83d"}, {"audio": "a\0.wav"}, {"labels": {"x": "\udce9"}}, {"tags": {"x": ["\udce9"]}},
                  {"origin": {"site": "\udce9"}}, {"captions": ["fine", "a \u202ebeep"]}):  # fmt: skip
        _no_text(Clip(**{**clip, **wrong})).encode()
