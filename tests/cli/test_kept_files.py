"""No command replaces or removes a file that it has not written, unless it is asked to."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from slap.audio.sources import Input, Segment
from slap.cli.embed import check_dropped
from slap.cli.main import main
from slap.inference.embedding_table import EmbeddingTable


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def taken(path):
    Path(path).write_text("mine")
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["tokenizer", "clips.csv", "mine.model"],
        ["overlap", "clips.csv", "clips.csv", "--out", "mine.jsonl.gz"],
        ["score", "model.ckpt", "clips.csv", "--out", "mine.csv"],
        ["frames", "model.ckpt", "a.wav", "--texts", "rain", "--plot", "mine.png"],
    ],
    ids=lambda command: command[0],
)
def test_an_output_that_exists_is_kept(command, capsys):
    path = taken(next(part for part in command if part.startswith("mine")))
    assert main(command) == 2
    assert f"{path} exists; name another file, or replace it by --overwrite" in capsys.readouterr().err
    assert Path(path).read_text() == "mine"


def test_a_folder_that_has_the_name_of_the_parts_is_kept():
    Path("emb.parquet.parts").mkdir()
    taken("emb.parquet.parts/thesis.txt")
    with pytest.raises(ValueError, match=r"holds thesis\.txt"):
        EmbeddingTable(Path("emb.parquet"), "model", 4).prepare(overwrite=True)
    assert Path("emb.parquet.parts/thesis.txt").read_text() == "mine"


def test_a_file_that_is_no_table_of_embeddings_is_not_overwritten():
    taken("emb.parquet")
    with pytest.raises(ValueError, match="is no parquet file"):
        EmbeddingTable(Path("emb.parquet"), "model", 4).prepare(overwrite=True)
    assert Path("emb.parquet").read_text() == "mine"


@pytest.mark.parametrize(
    ("paths", "lost"), [(["sounds"], None), (["sounds/a.wav"], 2), (["elsewhere"], 3)], ids=["folder", "file", "other"]
)
def test_rows_of_inputs_that_are_not_named_are_kept(paths, lost):
    """Of the folder `sounds` the file c.wav is gone."""
    for folder in ("sounds", "elsewhere"):
        Path(folder).mkdir()
    for name in ("a.wav", "b.wav"):
        taken(f"sounds/{name}")
    known = {f"sounds/{name}": {"path": f"sounds/{name}"} for name in ("a.wav", "b.wav", "c.wav")}
    named = {"sounds": ["a.wav", "b.wav"], "sounds/a.wav": ["a.wav"], "elsewhere": []}[paths[0]]
    items = [Input(f"sounds/{name}", Segment(f"sounds/{name}")) for name in named]
    given = Namespace(paths=paths, out="emb.parquet", prune=False)
    if lost is None:
        check_dropped(given, items, known)
    else:
        with pytest.raises(ValueError, match=f"has rows of {lost} inputs that are not named here"):
            check_dropped(given, items, known)
        check_dropped(Namespace(**{**vars(given), "prune": True}), items, known)


@pytest.mark.parametrize("name", ["results.md", "results.tex", "results.parts/thesis.txt"])
def test_evaluation_keeps_what_it_has_not_written(name, capsys):
    taken("test.csv")
    Path(name).parent.mkdir(exist_ok=True)
    taken(name)
    data = ["--tasks", "retrieval/mine", "--manifest", "mine=test.csv"]
    assert main(["evaluate", "starter", *data, "--out", "results.json", "--overwrite"]) == 2
    assert "name another file as --out" in capsys.readouterr().err
    assert Path(name).read_text() == "mine"


def test_preparing_keeps_what_it_has_not_written(capsys):
    Path("root").mkdir()
    Path("out").mkdir()
    taken("out/report.json")
    assert main(["prepare", "esc50", "root", "out", "--overwrite"]) == 2
    assert "report.json, which slap prepare has not written" in capsys.readouterr().err
    Path("out/report.json").write_text(json.dumps({"splits": {"all": {}}}))
    taken("out/all.jsonl.gz.backup")
    main(["prepare", "esc50", "root", "out", "--overwrite"])
    assert Path("out/all.jsonl.gz.backup").read_text() == "mine"


def test_a_synthetic_corpus_keeps_its_neighbors():
    from slap.datamodules.synthetic import write_corpus

    for name in ("corpus.part", "corpus.old"):
        Path(name).mkdir()
        taken(f"{name}/notes.txt")
    write_corpus("corpus", train=1, val=36, test=36)
    write_corpus("corpus", train=2, val=36, test=36)
    assert {path.name for path in Path().iterdir()} == {"corpus", "corpus.part", "corpus.old"}
    assert Path("corpus.old/notes.txt").read_text() == Path("corpus.part/notes.txt").read_text() == "mine"
