"""The commands that use a model: what they print and write, what they skip, and how they fail."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

import slap
from slap.audio.reader import blocks, read
from slap.cli.inputs import inputs
from slap.cli.main import main
from slap.core.errors import printable
from slap.core.segments import Segment
from slap.inference.spectrogram import levels, row_of
from slap.testing.tiny import tiny_checkpoint
from tests.support.late_video import late_video

COMMANDS = ("embed", "classify", "score", "caption", "frames", "export")
RATE = 16_000


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    """The model to use."""
    return tiny_checkpoint


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    """A folder of four clips in two folders, one of them no audio, and a manifest of parts of one."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "sounds"
    (folder / "deep").mkdir(parents=True)
    for name, seconds in (("a.wav", 0.5), ("b.flac", 2.5), ("deep/c.wav", 1.0)):
        soundfile.write(folder / name, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
    (folder / "bad.wav").write_text("no audio")
    (folder / "notes.txt").write_text("no audio, and not said to be any")
    rows = ["id,audio,caption,start,duration", "one,sounds/b.flac,a,0.5,1", "two,sounds/b.flac,b,1.5,"]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    return folder


def rows(path):
    table = pq.read_table(path)
    return {row["id"]: row for row in table.to_pylist()}


# -- what all have ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_the_exit_status(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"    slap {command} " in text
    assert "Exit status: 0" in text
    assert "--json" in text


OTHER = {
    "embed": ["sounds", "--out", "e.parquet"],
    "classify": ["sounds", "--labels", "a"],
    "score": ["clips.csv"],
    "caption": ["sounds"],
    "frames": ["sounds/a.wav", "--texts", "a"],
    "export": ["out"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_that_is_not_there(command, sounds, capsys):
    assert main([command, "nowhere.ckpt", *OTHER[command]]) == 2
    assert "there is no model nowhere.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("classify", ["nothing/*.wav", "--labels", "a"], "no match of a pattern, nothing"),
        ("classify", ["sounds", "--labels", "a", "a"], "different ones"),
        ("classify", ["sounds", "--labels", "a", "--prompts", "no place"], "must hold {label}"),
        ("classify", ["sounds", "--labels", "a", "--top", "0"], "--top must be at least 1"),
        ("embed", ["sounds", "--out", "e.csv"], "ends in .parquet"),
        ("embed", ["sounds", "--out", "e.parquet", "--devices", "0"], "1 or more"),
        ("frames", ["sounds/a.wav", "--texts", "a", "--hop", "0.05"], "every 2560 samples"),
        ("frames", ["sounds/bad.wav", "--texts", "a"], "bad.wav cannot be read as audio"),
        ("caption", ["sounds/notes"], "no file, and no match"),
    ],
)
def test_mistakes_say_what_to_do(command, options, message, model, sounds, capsys):
    assert main([command, str(model), *options]) == 2
    assert message in capsys.readouterr().err


def test_inputs_by_folder_glob_file_and_manifest(sounds):
    assert [item.id for item in inputs(["sounds"])] == [
        "sounds/a.wav", "sounds/b.flac", "sounds/bad.wav", "sounds/deep/c.wav",
    ]  # fmt: skip
    assert [item.id for item in inputs(["sounds/**/*.wav", "sounds/a.wav"])] == [
        "sounds/a.wav", "sounds/bad.wav", "sounds/deep/c.wav",
    ]  # fmt: skip
    one, two = inputs(["clips.csv"])
    assert (one.id, two.id) == ("one", "two")
    assert (one.audio.start, one.audio.duration) == (0.5, 1.0)
    assert Path(one.audio.path).resolve() == (sounds / "b.flac").resolve()


def test_inputs_of_a_table_with_columns_of_its_own(sounds):
    Path("own.csv").write_text("\ufefffilepath;title;from\r\nsounds/b.flac;rain;0.5\r\n;;\r\n", encoding="utf-16")
    (one,) = inputs(["own.csv"], columns={"audio": "filepath", "caption": "title", "start": "from"})
    assert (Path(one.audio.path).name, one.audio.start) == ("b.flac", 0.5)


def test_columns_of_a_table_on_the_command_line(model, sounds, capsys):
    Path("own.csv").write_text("filepath;title\nsounds/a.wav;rain\n")
    command = ["classify", str(model), "own.csv", "--labels", "a", "b"]
    assert main([*command, "--columns", "{audio: filepath, caption: title}"]) == 0
    assert "a.wav\t" in capsys.readouterr().out
    assert main(command) == 2
    assert "columns '{audio: filepath}'" in capsys.readouterr().err
    for wrong, message in (("audio", "a mapping is written as"), ("{audoi: x}", "did you mean 'audio'"), ("{a", "")):
        with pytest.raises(SystemExit):
            main([*command, "--columns", wrong])
        assert message in capsys.readouterr().err


def test_files_of_labels(model, sounds, capsys):
    Path("labels.txt").write_bytes("\ufeffdog\r\nrain\r\n".encode("utf-16"))
    Path("labels.csv").write_text("dog\nrain\n")
    assert main(["classify", str(model), "sounds/a.wav", "--labels", "labels.txt", "--top", "2", "--json"]) == 0
    (clip,) = json.loads(capsys.readouterr().out)["clips"]
    assert {label["label"] for label in clip["labels"]} == {"dog", "rain"}
    assert main(["classify", str(model), "sounds/a.wav", "--labels", "labels.csv"]) == 2
    assert "labels.csv is a file, and files with one of the labels per line end in .txt" in capsys.readouterr().err


def test_rows_of_a_manifest_that_cannot_be_used_are_told(model, sounds, capsys):
    """They vanished without a word, with exit status 0."""
    Path("some.csv").write_text("audio,caption\nsounds/a.wav,a dog\nsounds/nowhere.wav,rain\n")
    embed, classify = ["embed", "--out", "some.parquet"], ["classify", "--labels", "a", "b"]
    for command, *options in (embed, classify):
        assert main([command, str(model), "some.csv", *options]) == 3
        assert "skipped: some.csv" in (told := capsys.readouterr().err)
        assert "nowhere.wav" in told
    Path("none.csv").write_text("audio,caption\nsounds/nowhere.wav,rain\n")
    assert main(["classify", str(model), "none.csv", "--labels", "a", "b"]) == 2
    assert "nowhere.wav" in capsys.readouterr().err


def test_what_cannot_be_looked_at_costs_one_file(model, sounds, capsys):
    """A link to itself vanished without a word, and a name that is too long ended the command."""
    long = "x" * 300 + ".wav"
    Path("loop.wav").symlink_to("loop.wav")
    Path("nothing.wav").symlink_to("nowhere.wav")
    for arguments in (["loop.wav", "nothing.wav", long], ["loop*", "nothing*", long]):
        assert main(["classify", str(model), *arguments, "sounds/a.wav", "--labels", "a", "b", "--json"]) == 3
        found = json.loads(capsys.readouterr().out)
        assert [clip["id"] for clip in found["clips"]] == ["sounds/a.wav"]
        assert [failed["id"] for failed in found["failed"]] == ["loop.wav", "nothing.wav", long]
        assert "loop.wav cannot be opened: it is a link to itself" in found["failed"][0]["error"]


def test_the_home_folder(sounds, monkeypatch):
    monkeypatch.setenv("HOME", str(sounds))
    assert [item.id for item in inputs(["~/a.wav", "~/deep/*.wav"])] == [f"{sounds}/a.wav", f"{sounds}/deep/c.wav"]


@pytest.fixture
def silent(sounds):
    """The paths of a silent file, of one that was cut short, and of one with sound."""
    soundfile.write("silent.wav", np.zeros(RATE), RATE)
    raw = (sounds / "a.wav").read_bytes()
    Path("cut.wav").write_bytes(raw[: 44 + (len(raw) - 44) // 2])
    return ["silent.wav", "cut.wav", "sounds/a.wav"]


CUT = "it was cut short: 0.25 of the 0.50 s that its header declares are there"
SILENT = "it is silent (digital silence; below -70 dBFS nothing is heard)"


def noted(captured):
    """What a command says on stderr about files that it used."""
    lines = captured.err.splitlines()
    assert "slap: 2 of the files that were used have a note" in lines
    return sorted(line for line in lines if line.startswith("slap: note: "))


def test_classify_and_caption_say_silence_and_what_was_cut_short(model, silent, capsys):
    """Digital silence was "rain", p = 0.82, and of a file that was cut short there was no word."""
    for command, *options in (["classify", "--labels", "dog", "rain"], ["caption", "--max-length", "4"]):
        assert main([command, str(model), *silent, *options]) == 0
        captured = capsys.readouterr()
        assert noted(captured) == [f"slap: note: cut.wav: {CUT}", f"slap: note: silent.wav: {SILENT}"]
        lines = captured.out.splitlines()
        assert lines[0] == "silent.wav\t-"
        assert [line.split("\t")[0] for line in lines] == silent
        assert main([command, str(model), *silent, *options, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert sorted((note["id"], note["note"]) for note in found["notes"]) == [
            ("cut.wav", CUT),
            ("silent.wav", SILENT),
        ]
        assert found["clips"][0] == {
            "id": "silent.wav",
            **({"labels": [], "silent": True} if "--labels" in options else {"caption": ""}),
        }
        assert found["failed"] == []


def test_embed_says_silence_and_what_was_cut_short_once(model, silent, capsys):
    command = ["embed", str(model), *silent, "--out", "e.parquet"]
    assert main(command) == 0
    assert noted(capsys.readouterr()) == [f"slap: note: cut.wav: {CUT}", f"slap: note: silent.wav: {SILENT}"]
    assert set(rows("e.parquet")) == set(silent)
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []


def test_frames_of_silence_and_of_a_video_whose_audio_starts_late(model, silent, capsys):
    assert main(["frames", str(model), "silent.wav", "--texts", "dog", "--threshold", "-1"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, f"note: silent.wav: {SILENT}" in captured.err) == ("no events\n", True)
    times = np.arange(2 * RATE) / RATE
    late_video(Path("late.mkv"), 0.5 * np.sin(2000 * times) * (times > 1), RATE, late=3.0, seconds=6)
    assert (
        main(["frames", str(model), "late.mkv", "--texts", "dog", "--threshold", "-1", "--plot", "p.png", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["begins"] == pytest.approx(3.0, abs=0.01)
    assert (found["times"][0], found["times"][-1]) == (pytest.approx(3.08, abs=0.02), pytest.approx(4.92, abs=0.05))
    (event,) = found["events"]
    assert (event["onset"], event["offset"]) == (pytest.approx(3.0, abs=0.01), pytest.approx(5.0, abs=0.01))


# -- classify and caption ---------------------------------------------------------------------------------------------


def test_classify(model, sounds, capsys):
    labels = ["dog", "rain", "man"]
    assert main(["classify", str(model), "sounds", "--labels", *labels, "--top", "2", "--json"]) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    loaded = slap.load(model)
    for clip in found["clips"]:
        (expected,) = loaded.classify(clip["id"], labels)
        assert [label["label"] for label in clip["labels"]] == [score.label for score in expected[:2]]
        assert clip["labels"][0]["share"] == pytest.approx(expected[0].share, abs=1e-5)
        assert clip["labels"][0]["probability"] is None
    assert [clip["id"] for clip in found["clips"]] == ["sounds/a.wav", "sounds/b.flac", "sounds/deep/c.wav"]
    assert [failed["id"] for failed in found["failed"]] == ["sounds/bad.wav"]
    assert "skipped: sounds/bad.wav cannot be read" in captured.err

    assert main(["classify", str(model), "sounds/a.wav", "--labels", *labels]) == 0
    name, label, probability, cosine = capsys.readouterr().out.strip().split("\t")
    assert (name, label) == ("sounds/a.wav", found["clips"][0]["labels"][0]["label"])
    assert probability.startswith("share ")
    assert probability.endswith(" %")
    assert float(cosine) == pytest.approx(found["clips"][0]["labels"][0]["cosine"], abs=1e-3)


def test_labels_and_prompts_from_files(model, sounds, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("dog\n\nrain\n")
    (tmp_path / "prompts.txt").write_text("{label}\nthe sound of {label}\n")
    options = ["--labels", "labels.txt", "--prompts", "prompts.txt", "--top", "5", "--json"]
    assert main(["classify", str(model), "clips.csv", *options]) == 0
    found = json.loads(capsys.readouterr().out)["clips"]
    assert [clip["id"] for clip in found] == ["one", "two"]
    assert {label["label"] for label in found[0]["labels"]} == {"dog", "rain"}
    samples, _ = soundfile.read(sounds / "b.flac", dtype="float32")
    (expected,) = slap.load(model).classify(
        torch.tensor(samples[8000:24_000]), ["dog", "rain"], ["{label}", "the sound of {label}"]
    )
    assert found[0]["labels"][0]["cosine"] == pytest.approx(expected[0].cosine, abs=1e-5)


def test_caption(model, sounds, capsys):
    assert main(["caption", str(model), "sounds", "--max-length", "10", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    expected = slap.load(model).caption(["sounds/a.wav", "sounds/b.flac", "sounds/deep/c.wav"], max_length=10)
    assert [clip["caption"] for clip in found["clips"]] == expected
    assert main(["caption", str(model), "sounds/a.wav", "--max-length", "10"]) == 0
    assert capsys.readouterr().out == f"sounds/a.wav\t{expected[0]}\n"


def test_caption_by_drawing(model, sounds, capsys):
    drawn = ["--max-length", "10", "--top-p", "0.9", "--temperature", "1.5", "--seed", "7"]
    assert main(["caption", str(model), "sounds/a.wav", "sounds/b.flac", *drawn]) == 0
    shown = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    files = ["sounds/a.wav", "sounds/b.flac"]
    drawn_too = slap.load(model).caption(files, max_length=10, top_p=0.9, temperature=1.5, seed=7)
    assert shown == [printable(text) for text in drawn_too]
    assert main(["caption", str(model), "sounds/a.wav", "--seed", "7"]) == 2
    assert "temperature and seed need sampling; set top_p too" in capsys.readouterr().err
    assert main(["caption", str(model), "sounds/a.wav", "--top-p", "0.9", "--beam", "2"]) == 2
    assert "choose a beam or top_p" in capsys.readouterr().err


# -- frames -----------------------------------------------------------------------------------------------------------


def test_frames(model, sounds, tmp_path, capsys):
    options = ["--texts", "a dog", "rain", "--plot", "plots/b.png", "--threshold", "-1", "--json"]
    assert main(["frames", str(model), "sounds/b.flac", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] == 2.5
    assert len(found["times"]) == len(found["similarity"]["rain"]) == 61
    assert [(event["text"], event["onset"], event["offset"]) for event in found["events"]] == [
        ("a dog", 0.0, 2.5), ("rain", 0.0, 2.5),
    ]  # fmt: skip
    assert (tmp_path / "plots/b.png").read_bytes().startswith(b"\x89PNG")
    assert main(["frames", str(model), "sounds/b.flac", "--texts", "rain", "--threshold", "1.1"]) == 0
    assert "no events" in capsys.readouterr().out


def test_frames_outlines_the_known_segments_of_a_recording(model, sounds, tmp_path, monkeypatch, capsys):
    """Their phrases are the texts by default, and their times count from the begin of the file, not of the clip."""
    row = {"id": "b", "audio": "sounds/b.flac", "caption": "a dog", "start": 0.5, "duration": 2.0}
    row["segments"] = [{"start": 0.25, "end": 1.0, "text": "a dog"}, {"start": 1.5, "end": 2.0, "text": "rain"}]
    Path("known.jsonl").write_text(json.dumps(row) + "\n")
    drawn = []
    monkeypatch.setattr("slap.inference.frames_plot.draw", lambda *given: drawn.append(given))
    options = ["--known", "known.jsonl", "--json", "--plot", "b.png"]
    assert main(["frames", str(model), "sounds/b.flac", *options]) == 0
    assert list(json.loads(capsys.readouterr().out)["similarity"]) == ["a dog", "rain"]
    assert drawn[0][-1] == [Segment(0.75, 1.5, "a dog"), Segment(2.0, 2.5, "rain")]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["frames", str(model), "sounds/b.flac", *options, "--texts", "wind"]) == 0  # rows for the others, too
    assert Path("b.png").read_bytes().startswith(b"\x89PNG")
    assert main(["frames", str(model), "sounds/a.wav", *options]) == 2
    assert "known.jsonl has no segments of sounds/a.wav" in capsys.readouterr().err


def test_the_spectrogram_shows_what_sounds_when(tmp_path):
    """Silence, then a tone of 2 kHz, also when it comes in many blocks."""
    time = np.arange(RATE * 40) / RATE
    soundfile.write(tmp_path / "tone.wav", np.where(time > 20, np.sin(2 * np.pi * 2000 * time), 0) * 0.5, RATE)
    image = levels(blocks(tmp_path / "tone.wav", RATE), RATE, 40 * RATE)
    columns, row = image.shape[1], int(row_of(2000, RATE))
    assert columns == 900
    assert image[row - 1 : row + 2, columns * 3 // 4].max() > 0.98
    assert image[:, : columns // 2 - 2].max() < 0.2
    assert image[row + 8, columns * 3 // 4] < 0.6
    whole = levels([read(tmp_path / "tone.wav", RATE)], RATE, 40 * RATE)
    np.testing.assert_allclose(image, whole, atol=1e-5)


# -- embed ------------------------------------------------------------------------------------------------------------


def test_embed_writes_a_row_for_each_file_in_order(model, sounds, capsys):
    assert main(["embed", str(model), "sounds", "clips.csv", "--out", "deep/er/emb.parquet", "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == report["embedded"] == 5
    assert [failed["id"] for failed in report["failed"]] == ["sounds/bad.wav"]
    table = pq.read_table("deep/er/emb.parquet")
    assert table["id"].to_pylist() == ["sounds/a.wav", "sounds/b.flac", "sounds/deep/c.wav", "one", "two"]
    loaded = slap.load(model)
    expected = loaded.embed_audio(["sounds/a.wav", "sounds/b.flac", "sounds/deep/c.wav"])
    found = torch.tensor(table["embedding"].to_pylist())
    torch.testing.assert_close(found[:3], expected, rtol=0, atol=1e-5)
    assert table["seconds"].to_pylist() == [0.5, 2.5, 1.0, 1.0, 1.0]
    assert table.schema.metadata[b"slap.model"].decode() == loaded.name
    assert not Path("deep/er/emb.parquet.parts").exists()


def test_embed_again_does_only_what_is_new(model, sounds, capsys, monkeypatch):
    command = ["embed", str(model), "sounds", "--out", "emb.parquet", "--json"]
    main(command)
    before = rows("emb.parquet")
    capsys.readouterr()
    read = []
    original = slap.Model.stream

    def stream(self, audio, *options, **named):
        read.extend(str(item) for item in audio)
        return original(self, audio, *options, **named)

    monkeypatch.setattr(slap.Model, "stream", stream)
    main(command)
    assert read == ["sounds/bad.wav"]  # what failed is tried again
    assert json.loads(capsys.readouterr().out)["embedded"] == 0
    assert rows("emb.parquet") == before

    soundfile.write(sounds / "a.wav", np.zeros(4000), RATE)  # changed
    (sounds / "bad.wav").unlink()  # gone
    (sounds / "deep/c.wav").unlink()
    soundfile.write(sounds / "d.wav", np.zeros(3000), RATE)  # new
    read.clear()
    assert main(command) == 0
    assert read == ["sounds/a.wav", "sounds/d.wav"]
    after = rows("emb.parquet")
    assert list(after) == ["sounds/a.wav", "sounds/b.flac", "sounds/d.wav"]
    assert after["sounds/b.flac"] == before["sounds/b.flac"]
    assert after["sounds/a.wav"]["embedding"] != before["sounds/a.wav"]["embedding"]


def test_an_interrupted_embed_goes_on(model, sounds, capsys, monkeypatch):
    command = ["embed", str(model), "sounds", "--out", "emb.parquet", "--json"]
    original = slap.Model.stream

    def broken(self, audio, *options, **named):
        for i, done in enumerate(original(self, audio, *options, **named)):
            if i == 3:  # the one that fails, and two more
                raise KeyboardInterrupt
            yield done

    with monkeypatch.context() as patch:
        patch.setattr(slap.Model, "stream", broken)
        assert main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not Path("emb.parquet").exists()
    assert main(command) == 3
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["embedded"]) == (3, 1)
    assert list(rows("emb.parquet")) == ["sounds/a.wav", "sounds/b.flac", "sounds/deep/c.wav"]


def test_a_table_of_another_model_is_not_mixed_up(model, sounds, tmp_path, capsys):
    (sounds / "bad.wav").unlink()
    tiny_checkpoint(tmp_path / "other.ckpt", seed=1)
    assert main(["embed", str(model), "sounds", "--out", "emb.parquet"]) == 0
    command = ["embed", "other.ckpt", "sounds", "--out", "emb.parquet"]
    assert main(command) == 2
    assert "holds embeddings of another model" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    expected = slap.load("other.ckpt").embed_audio("sounds/a.wav")[0]
    torch.testing.assert_close(torch.tensor(rows("emb.parquet")["sounds/a.wav"]["embedding"]), expected)
    Path("emb.parquet").write_text("something else")
    assert main(command) == 2
    assert "is no parquet file" in capsys.readouterr().err


def test_embed_in_fewer_dimensions_and_int8(sounds, tmp_path, capsys):
    tiny_checkpoint(tmp_path / "nested.ckpt", {"contrastive": {"matryoshka": [16, 8]}})
    command = ["embed", "nested.ckpt", "sounds/a.wav", "sounds/b.flac", "--out", "emb.parquet"]
    assert main([*command, "--dim", "4"]) == 2
    assert "trained for 8 to 16 dimensions; got dim 4" in capsys.readouterr().err
    small = [*command, "--dim", "8", "--embedding-dtype", "int8"]
    assert main(small) == main(small) == 0
    assert "2 embeddings, 0 of them new" in capsys.readouterr().out
    table = pq.read_table("emb.parquet")
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: int8>[8]"
    expected = slap.load("nested.ckpt").embed_audio(["sounds/a.wav", "sounds/b.flac"], dim=8, dtype="int8")
    assert (torch.tensor(table["embedding"].to_pylist()) - expected.int()).abs().max() <= 1
    assert main(command) == 2  # else rows of both kinds would stand in one table
    assert "name another file, or --overwrite it" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert len(rows("emb.parquet")["sounds/a.wav"]["embedding"]) == 16


@pytest.mark.distributed
def test_embedding_by_two_processes(model, sounds):
    command = [sys.executable, "-m", "slap", "embed", str(model), "sounds", "--out", "emb.parquet", "--json"]
    done = subprocess.run(
        [*command, "--devices", "2", "--accelerator", "cpu"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert (report["rows"], [failed["id"] for failed in report["failed"]]) == (3, ["sounds/bad.wav"])
    main(["embed", str(model), "sounds", "--out", "one.parquet"])
    alone, together = rows("one.parquet"), rows("emb.parquet")
    assert list(alone) == list(together)
    for name, row in alone.items():
        assert together[name]["embedding"] == pytest.approx(row["embedding"], abs=1e-5)


# -- export -----------------------------------------------------------------------------------------------------------


def test_export(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(model, "best.ckpt")
    assert main(["export", "best.ckpt", "out", "--licence", "apache-2.0", "--name", "Barks", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    theirs = ["config_sentence_transformers.json", "modules.json"]
    assert report["files"] == sorted(["README.md", "config.json", "model.safetensors", "tokenizer.model", *theirs])
    assert report["name"] == slap.load("out").name == slap.load("best.ckpt").name
    card = Path("out/README.md").read_text()
    assert "license: apache-2.0" in card
    assert "# Barks" in card

    assert main(["export", "best.ckpt", "out"]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert main(["export", "out", "again"]) == 0  # a saved model can be saved
    assert main(["export", "best.ckpt", "out", "--overwrite"]) == 0
    Path("other").mkdir()
    Path("other/mine.txt").write_text("mine")
    assert main(["export", "best.ckpt", "other", "--overwrite"]) == 2
    assert "holds other things" in capsys.readouterr().err


def test_classifying_does_not_wait_for_lightning(model, sounds):
    code = (
        "import sys\nfrom slap.cli.main import main\n"
        f"main(['classify', {str(model)!r}, 'sounds/a.wav', '--labels', 'a', 'b'])\n"
        f"main(['embed', {str(model)!r}, 'sounds/a.wav', '--out', 'e.parquet'])\n"
        "heavy = ('lightning', 'torchmetrics', 'lhotse', 'torch._dynamo', 'transformers')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
