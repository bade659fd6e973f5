"""`--part` and `--merge`: four parts, one of them killed, make the same bytes as one process, for all commands."""

import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import slap
from slap.cli.main import main
from slap.cli.part_inputs import PartInputs
from slap.core.registry import load_module
from slap.datamodules import write_cuts
from slap.datamodules.manifests.clip import Clip, write_manifest
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.overlap import parts as overlap_parts
from slap.datamodules.overlap import search as overlap_search
from slap.datamodules.prepare import parts as prepare_parts
from slap.datamodules.shar import shard as packing
from slap.inference import embedding_parts, stream

RATE, N = 16000, 43

TOY = str(Path(__file__).parents[1] / "support" / "my_corpus.py")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Write 43 clips, of which one cannot be read and two are the same, with a manifest and an official list."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for i in range(N):
        size = RATE // 2 + 400 * i
        loudness = np.repeat(rng.uniform(0.1, 1, 200), 160)[:size]
        soundfile.write(folder / f"{i:02}.wav", rng.uniform(-0.5, 0.5, size) * loudness, RATE)
    shutil.copy(folder / "07.wav", folder / "40.wav")
    write_manifest(folder / "m.jsonl", [Clip(f"c{i}", folder / f"{i:02}.wav", [f"sound {i}"]) for i in range(N)])
    clips = read_manifest(folder / "m.jsonl")
    write_cuts(folder / "m.jsonl.gz", clips)
    for name, numbers in (("test", (3, 29, 40)), ("other", (5,))):
        chosen = [Clip(f"{name}/{i}", folder / f"{i:02}.wav", ["x"]) for i in numbers]
        write_cuts(folder / f"{name}.jsonl.gz", read_manifest(write_manifest(folder / f"{name}.jsonl", chosen)))
    (folder / "11.wav").write_bytes(b"no audio")
    lines = [f"{i:02}.wav 0" for i in range(N)] + ["gone.wav 0", "skip.wav 0", "t.wav 0", "01.wav 0 again"]
    (folder / "list.txt").write_text("\n".join(lines))
    soundfile.write(folder / "t.wav", np.ones(100), RATE)
    return folder


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    load_module(TOY)
    monkeypatch.setattr(overlap_parts, "CHUNK", 3)
    monkeypatch.setattr(prepare_parts, "TURN", 4)
    for module in (stream, embedding_parts):
        monkeypatch.setattr(module, "PORTION", 4)


def pack(corpus, out, model):
    del model
    return ["pack", corpus / "m.jsonl.gz", out / "shards", "--shard-size", 4, "--workers", 1, "--skip-bad"]


def overlap(corpus, out, model):
    del model
    manifests = [corpus / f"{name}.jsonl.gz" for name in ("m", "test", "other")]
    return ["overlap", *manifests, "--out", out / "clean.jsonl.gz", "--workers", 1, "--json"]


def embed(corpus, out, model):
    paths = [corpus / "m.jsonl.gz", corpus / "0*.wav"]
    return ["embed", model, *paths, "--out", out / "emb.parquet", "--batch-seconds", 2, "--device", "cpu"]


def prepare(corpus, out, model):
    del model
    return ["prepare", "toy_list", corpus, out / "manifests", "--workers", 0]


COMMANDS = {
    "pack": (pack, packing, "_loaded", 0),
    "overlap": (overlap, overlap_search, "_fingerprint", 1),
    "embed": (embed, slap.Model, "stream", 3),
    "prepare": (prepare, prepare_parts, "header_line", 0),
}
"""The arguments of each command, what does its work on a clip, and its exit status."""


def run(command):
    return main([str(argument) for argument in command])


def killed(command, place, name, at):
    """Run a command in a process that is killed when a function is called the `at`-th time."""
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        real, calls = getattr(place, name), []

        def fatal(*arguments, **options):
            calls.append(1)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(place, name, fatal)
        run(command)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def contents(folder):
    """Return all files below a folder, but that of an index, which has the time of its manifest in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in {".index", ".png"}]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_four_parts_one_of_them_killed_are_the_bytes_of_one_process(
    name, corpus, tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    command, place, function, status = COMMANDS[name]
    whole, out = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    out.mkdir()
    assert run(command(corpus, whole, tiny_checkpoint)) == status
    printed = capsys.readouterr().out.replace(str(whole), str(out))
    asked = command(corpus, out, tiny_checkpoint)
    for number in (4, 1, 2):  # in any order
        assert run([*asked, "--part", f"{number}/4"]) == 0
    killed([*asked, "--part", "3/4"], place, function, at={"embed": 2, "overlap": 9}.get(name, 7))
    assert run([*asked, "--merge"]) == 2
    assert "lacks part 3/4 (3/4 begun, not complete); run the same command with --part 3/4" in capsys.readouterr().err
    done, real = [], getattr(place, function)
    monkeypatch.setattr(place, function, lambda *a, **b: done.append(1) or real(*a, **b))
    assert run([*asked, "--part", "3/4"]) == 0
    some = len(done)
    assert run([*asked, "--part", "3/4"]) == 0
    assert len(done) == some  # complete: nothing is done again
    assert "was complete before" in capsys.readouterr().out
    monkeypatch.undo()
    small_again(monkeypatch)
    assert run([*asked, "--merge"]) == status
    assert capsys.readouterr().out == printed
    assert contents(out) == contents(whole)
    fresh = {"pack": 12, "overlap": 16, "embed": 4, "prepare": 12}[name]
    assert 0 < some < fresh  # it went on where it was


def small_again(monkeypatch):
    for module in (stream, embedding_parts):
        monkeypatch.setattr(module, "PORTION", 4)
    monkeypatch.setattr(overlap_parts, "CHUNK", 3)
    monkeypatch.setattr(prepare_parts, "TURN", 4)


def test_other_options_are_refused_with_the_name_of_the_part(corpus, tmp_path, capsys):
    asked = pack(corpus, tmp_path, None)
    assert run([*asked, "--part", "1/2"]) == 0
    asked[asked.index("--shard-size") + 1] = 5
    for action in (["--part", "2/2"], ["--merge"]):
        assert run([*asked, *action]) == 2
        assert "part 1/2 was made with other options or inputs: shard size 4 instead of 5" in capsys.readouterr().err


def test_one_process_does_not_make_what_parts_are_made_of(corpus, tmp_path, capsys):
    asked = pack(corpus, tmp_path, None)
    assert run([*asked, "--part", "2/4"]) == 0
    assert run(asked) == 2
    assert "shards.parts holds parts of" in (error := capsys.readouterr().err)
    assert "go on with --part, put them together with --merge" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "0/4"], "a part is written as 3/64"),
        (["--part", "1/4", "--merge"], "not allowed with argument --part"),
    ],
)
@pytest.mark.parametrize("name", ["pack", "prepare"])
def test_mistakes(name, options, message, corpus, tmp_path, capsys):
    with suppress(SystemExit):  # of argparse
        assert run([*COMMANDS[name][0](corpus, tmp_path, None), *options]) == 2
    assert message in capsys.readouterr().err


def test_overlap_in_parts_needs_a_file_to_keep_them_beside(corpus, capsys):
    assert run(["overlap", corpus / "m.jsonl.gz", corpus / "test.jsonl.gz", "--part", "1/2"]) == 2
    assert "--part and --merge keep the parts beside the file of --out" in capsys.readouterr().err


def test_a_list_that_changed_between_parts_and_merge_is_refused(corpus, tmp_path, capsys):
    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    asked = prepare(root, tmp_path, None)
    for number in (1, 2):
        assert run([*asked, "--part", f"{number}/2"]) == 0
    lines = (root / "list.txt").read_text().splitlines()
    (root / "list.txt").write_text("\n".join(lines[1:]))
    assert run([*asked, "--merge"]) == 2
    assert "the list has changed since this part was made" in capsys.readouterr().err


def test_the_recordings_of_a_part_are_those_of_the_whole_command(corpus, monkeypatch):
    from slap.cli.inputs import inputs

    monkeypatch.chdir(corpus)
    paths = ["0*.wav", "01.wav", "m.jsonl.gz", "m.jsonl.gz", "test.jsonl.gz"]
    assert list(PartInputs(paths)) == inputs(paths)
    assert PartInputs(paths)[12:15] == inputs(paths)[12:15]


def test_a_table_that_is_there_is_not_replaced(corpus, tiny_checkpoint, tmp_path, capsys):
    asked = embed(corpus, tmp_path, tiny_checkpoint)
    (tmp_path / "emb.parquet").write_text("a table")
    assert run([*asked, "--part", "1/2"]) == 2
    assert "parts make a table anew: name another file, or --overwrite it" in capsys.readouterr().err


def test_records_of_parts_are_plain(corpus, tmp_path):
    asked = overlap(corpus, tmp_path, None)
    assert run([*asked, "--part", "1/1"]) == 0
    folder = tmp_path / "clean.jsonl.gz.parts/00001-of-00001"
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["manifests"][0]["clips"] == N
    assert plan["by"] == ["content", "fingerprint", "id", "origin"]
