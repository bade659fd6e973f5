"""`slap index` and `slap search` with a real, tiny model, as people type them."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import soundfile
import torch
from filelock import FileLock

import slap
from slap.audio.reader import AudioError
from slap.audio.sources import Segment
from slap.cli.main import main
from slap.search import Index
from slap.search.metadata import Metadata
from slap.search.store import Store
from slap.testing.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "model.ckpt")
    tiny_checkpoint(folder / "other.ckpt", seed=1)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch, checkpoints):
    """A folder with sounds of noise in `sounds`, the models beside it, and the current folder."""
    rng = np.random.default_rng(0)
    for i in range(4):
        path = tmp_path / f"sounds/{i % 2}/{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 4000 * (i + 1)), 8000)
    for name in ("model.ckpt", "other.ckpt"):
        (tmp_path / name).symlink_to(checkpoints / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_checkpoint(path, **options):
    """Write the checkpoint of a model whose averages, if it has some, differ from its weights."""
    nano = {"name": "transformer", "size": "nano"}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = slap.SLAP(nano, {**nano, "vocab_size": 320}, {"contrastive": 1.0}, **options)
        model.text.prepare(["a dog barks"])
        with torch.no_grad():
            for parameter in filter(lambda one: one.requires_grad, model.parameters()):
                parameter += 0.02 * torch.randn_like(parameter)
    content = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    torch.save(content, path)


def run(capsys, *arguments, status=0):
    """What a command prints."""
    assert main(arguments) == status
    return capsys.readouterr().out


def test_index_then_search_by_text_and_by_sound(folder, capsys):
    printed = run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    assert "sounds.index: 4 files" in printed
    assert "4 added; 0 as they were" in printed
    lines = run(capsys, "search", "sounds.index", "a dog barks", "--top", "3").splitlines()
    assert (lines[0], [line.split()[0] for line in lines[1:]]) == ("a dog barks", ["1", "2", "3"])
    scores = [float(line.split()[1]) for line in lines[1:]]
    assert scores == sorted(scores, reverse=True)
    first = run(capsys, "search", "sounds.index", "--audio", "sounds/0/0.wav").splitlines()[1]
    assert first.split()[:2] == ["1", "1.000"]
    assert first.endswith("0/0.wav")


def test_json(folder, capsys):
    (folder / "sounds/bad.wav").write_bytes(b"junk")
    report = json.loads(run(capsys, "index", "model.ckpt", "sounds", "sounds.index", "--json", status=3))
    assert (report["added"], report["files"], report["approximate"]) == (4, 4, False)
    assert [(bad["path"], bad["reason"]) for bad in report["bad"]] == [("bad.wav", "unreadable")]
    found = json.loads(run(capsys, "search", "sounds.index", "rain", "--audio", "sounds/0/0.wav", "--json"))
    assert found["folder"] == str(folder / "sounds")
    text, audio = found["results"]
    assert (text["text"], audio["audio"]) == ("rain", "sounds/0/0.wav")
    place = {"rank", "score", "id", "path", "start", "end", "duration"}
    assert set(text["hits"][0]) == {*place, "alike", "probability", "likelihood"}
    assert audio["hits"][0]["path"] == "0/0.wav"


def test_the_exit_status_of_index_is_that_of_the_other_commands(folder, capsys):
    """It was 0 with files that cannot be read."""
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    soundfile.write(folder / "sounds/silent.wav", np.zeros(8000), 8000)
    assert "not indexed: 1 silent" in run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    (folder / "sounds/bad.wav").write_bytes(b"junk")
    for _ in range(2):  # and as long as it is there
        printed = run(capsys, "index", "model.ckpt", "sounds", "sounds.index", status=3)
        assert "bad.wav cannot be read as audio" in printed


def test_sounds_to_search_for_that_cannot_be_used_cost_themselves(folder, capsys):
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    soundfile.write(folder / "silent.wav", np.zeros(8000), 8000)
    command = ["search", "sounds.index", "--audio", "silent.wav", "sounds/0/0.wav", "none.wav", "--top", "1"]
    assert main(command) == 3
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "sounds/0/0.wav"
    assert "skipped: silent.wav: it is silent" in captured.err
    assert "skipped: there is no file none.wav" in captured.err
    assert main([*command[:4]]) == 2
    with pytest.raises(AudioError, match=r"silent\.wav: it is silent .* nothing to search for"):
        Index.open("sounds.index").audio(["silent.wav"])


def test_composed_queries(folder, capsys):
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    command = ["search", "sounds.index", "--audio", "sounds/0/0.wav", "--text", "rain", "--without", "thunder"]
    assert run(capsys, *command).splitlines()[0] == "sounds/0/0.wav + rain - thunder"
    (found,) = json.loads(run(capsys, *command, "--json"))["results"]
    assert (found["audio"], found["with"], found["without"]) == ("sounds/0/0.wav", ["rain"], ["thunder"])
    expected = Index.open("sounds.index").composed(["sounds/0/0.wav"], ["rain"], ["thunder"])
    assert [hit["path"] for hit in found["hits"]] == [hit.path for hit in expected]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    assert run(capsys, "search", "sounds.index", "--text", "dog", "rain").splitlines()[0] == "dog + rain"
    assert main(["search", "sounds.index", "rain", "--without", "rain"]) == 2
    assert "nothing is left of this query" in capsys.readouterr().err
    assert main(["search", "sounds.index", "--without", "rain"]) == 2
    assert "nothing to search for" in capsys.readouterr().err


def test_queries_from_a_file_and_from_the_standard_input(folder, capsys, monkeypatch):
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    (folder / "queries.txt").write_text("a dog\n\nrain\n")
    printed = run(capsys, "search", "sounds.index", "an owl", "--queries", "queries.txt", "--top", "1")
    assert [part.splitlines()[0] for part in printed.split("\n\n")] == ["an owl", "a dog", "rain"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("wind\n"))
    assert run(capsys, "search", "sounds.index", "--queries", "-", "--top", "1").startswith("wind\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "nowhere", "rain"], "nowhere is no index of sounds; make one with"),
        (["search", "sounds.index"], "nothing to search for"),
        (["search", "sounds.index", " "], "a text to search for is empty"),
        (["search", "sounds.index", "rain", "--top", "0"], "from 1 to 1000 results"),
        (["search", "sounds.index", "--audio", "none.wav"], "none.wav"),
        (["search", "sounds.index", "rain", "--model", "other.ckpt"], "the index was made by the model"),
        (["search", "sounds.index", "rain", "--model", "gone.ckpt"], "give its path with --model"),
        (["serve", "nowhere"], "nowhere is no index of sounds"),
        (["serve", "sounds.index", "--host", "0.0.0.0"], "--host is 0.0.0.0, which others can reach"),
        (["serve", "sounds.index", "--port", "99999"], "--port must be from 0 to 65535, got 99999"),
        (["serve", "sounds.index", "--port", "0", "--model", "other.ckpt"], "the index was made by the model"),
        (["index", "other.ckpt", "sounds", "sounds.index"], "embeddings of two models cannot be compared"),
        (["index", "model.ckpt", "sounds/0", "sounds.index"], "add --relocate"),
        (["index", "model.ckpt", "sounds", "sounds.index", "--window", "0.5"], "leave --window out, or add --rebuild"),
        (["index", "model.ckpt", "sounds", "new.index", "--window", "1000"], "--window is 1000 s; this model takes"),
        (["index", "model.ckpt", "sounds", "new.index", "--hop", "9"], "--hop is 9 s"),
        (["index", "model.ckpt", "nowhere", "new.index"], "there is no folder nowhere"),
        (["index", "model.ckpt", "sounds", "sounds"], "sounds holds other things than an index"),
        (["index", "model.ckpt", "sounds", "new.index", "--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_said(folder, capsys, arguments, message):
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index", "--window", "1")
    before = Metadata.load(folder / "sounds.index")
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert Metadata.load(folder / "sounds.index") == before
    assert len(Store(folder / "sounds.index", before.embedding_dim).files()) == 4


def test_another_model_after_rebuild_and_a_moved_folder_after_relocate(folder, capsys):
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    printed = run(capsys, "index", "other.ckpt", "sounds", "sounds.index", "--rebuild", "--window", "0.5")
    assert "4 added" in printed
    (folder / "sounds").rename(folder / "elsewhere")
    printed = run(capsys, "index", "other.ckpt", "elsewhere", "sounds.index", "--relocate")
    assert "nothing new; 4 as they were" in printed
    assert Metadata.load(folder / "sounds.index").folder == str(folder / "elsewhere")


def test_rebuilding_with_a_model_of_another_dimension(folder, capsys, checkpoints):
    """It was a traceback of LanceDB."""
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    write_checkpoint("wide.ckpt", embedding_dim=24)
    assert "4 added" in run(capsys, "index", "wide.ckpt", "sounds", "sounds.index", "--rebuild")
    assert Metadata.load(folder / "sounds.index").embedding_dim == 24
    assert len(run(capsys, "search", "sounds.index", "rain").splitlines()) == 5
    with pytest.raises(
        ValueError, match=r"other embeddings than those of 16 float32 numbers .* `slap index --rebuild`"
    ):
        Store(folder / "sounds.index", 16)


def test_an_index_keeps_its_choice_of_weights(folder, capsys):
    write_checkpoint("averaged.ckpt", embedding_dim=16, ema=True)
    run(capsys, "index", "averaged.ckpt", "sounds", "sounds.index", "--weights", "ema")
    metadata = Metadata.load(folder / "sounds.index")
    names = {which: slap.load("averaged.ckpt", weights=which).name for which in ("raw", "ema")}
    assert (metadata.weights, metadata.model_name) == ("ema", names["ema"])
    assert names["raw"] != names["ema"]
    assert "nothing new; 4 as they were" in run(capsys, "index", "averaged.ckpt", "sounds", "sounds.index")
    (hits,) = Index.open("sounds.index").audio(["sounds/0/0.wav"], top=1)
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert main(["index", "averaged.ckpt", "sounds", "sounds.index", "--weights", "raw"]) == 2
    assert "embeddings of two models cannot be compared" in capsys.readouterr().err


def test_an_index_of_the_older_format_is_read(folder, capsys):
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    file = folder / "sounds.index/slap-index.json"
    values = json.loads(file.read_text())
    assert (values.pop("weights"), values.pop("dtype"), values["format"]) == ("raw", "float32", 3)
    file.write_text(json.dumps({**values, "format": 1}))
    assert "nothing new; 4 as they were" in run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    assert Metadata.load(folder / "sounds.index").weights == "raw"


def test_two_updates_at_once_are_refused(folder, capsys):
    (folder / "sounds.index").mkdir()
    with FileLock(folder / "sounds.index/.lock"):
        assert main(["index", "model.ckpt", "sounds", "sounds.index"]) == 2
    assert "is being updated by another" in capsys.readouterr().err


def test_names_cannot_steer_the_terminal(folder, capsys):
    (folder / "sounds/0/0.wav").rename(folder / "sounds/\x1b[2J\nfake.wav")
    (folder / "sounds/\x1b[31m.wav").write_bytes(b"junk")
    printed = run(capsys, "index", "model.ckpt", "sounds", "sounds.index", status=3)
    printed += run(capsys, "search", "sounds.index", "rain")
    assert "\x1b" not in printed
    assert "\\x1b[2J\\nfake.wav" in printed


def test_an_interrupted_update_says_so(folder, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("slap.search.update.run", interrupted)
        assert main(["index", "model.ckpt", "sounds", "sounds.index"]) == 130
    assert "interrupted; 0 files are indexed, the same command goes on" in capsys.readouterr().err
    assert "4 added" in run(capsys, "index", "model.ckpt", "sounds", "sounds.index")


@pytest.mark.slow
def test_a_killed_update_goes_on_where_it_was(folder):
    """With kill -9, after the first commit."""
    rng = np.random.default_rng(1)
    for i in range(60):
        soundfile.write(folder / f"sounds/{i:02}.wav", rng.uniform(-0.5, 0.5, 800), 8000)
    slow = (
        "import sys, time; from slap.search import update; from slap.cli.main import main\n"
        "from slap.inference.network_backend import NetworkBackend; embed = NetworkBackend.encode_audio\n"
        "update.COMMIT_ROWS, update.BATCH_SECONDS = 8, 0.8\n"
        "NetworkBackend.encode_audio = lambda self, clips: (time.sleep(0.05), embed(self, clips))[1]\n"
        "sys.exit(main(['index', 'model.ckpt', 'sounds', 'sounds.index']))"
    )
    process = subprocess.Popen([sys.executable, "-c", slow], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    files, until = {}, time.monotonic() + 300
    while len(files) < 8 and time.monotonic() < until:
        time.sleep(0.02)
        if (folder / "sounds.index/slap-index.json").exists():
            files = Store(folder / "sounds.index", 16).files()
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = len(Store(folder / "sounds.index", 16).files())
    assert 8 <= kept < 64
    command = [sys.executable, "-m", "slap", "index", "model.ckpt", "sounds", "sounds.index", "--json"]
    report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (report["unchanged"], report["added"], report["files"]) == (kept, 64 - kept, 64)


def test_searching_does_not_import_lightning(folder, capsys):
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    code = (
        "import sys; from slap.cli.main import main; main(['search', 'sounds.index', 'rain'])\n"
        "print([name for name in ('lightning', 'lhotse', 'transformers', 'matplotlib') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


def test_serving_until_interrupted(folder, capsys):
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index")
    code = (  # in the background of a shell, interruptions are ignored
        "import signal, sys; from slap.cli.main import main; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.exit(main(['serve', 'sounds.index', '--port', '0', '--json']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}api/search?q=rain&top=2") as answer:
            assert len(json.load(answer)["hits"]) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("command", ["index", "search", "serve"])
def test_help_has_an_example_and_exit_statuses(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"slap {command} " in printed
    assert "Exit status: 0" in printed


def test_pages_duplicates_and_re_ranking_on_the_terminal(folder, capsys):
    (folder / "sounds/1/copy.wav").write_bytes((folder / "sounds/0/0.wav").read_bytes())
    run(capsys, "index", "model.ckpt", "sounds", "sounds.index", "--dtype", "int8", "--window", "1")
    whole = run(capsys, "search", "sounds.index", "rain").splitlines()
    assert len(whole) == 5
    assert [line for line in whole if line.endswith("(and 1 more alike)")]
    assert run(capsys, "search", "sounds.index", "rain", "--top", "2", "--offset", "2").splitlines()[1:] == whole[3:]
    assert len(run(capsys, "search", "sounds.index", "rain", "--unfolded").splitlines()) == 6
    assert run(capsys, "search", "sounds.index", "rain", "--offset", "9") == "rain\n  there are no more files\n"
    found = json.loads(run(capsys, "search", "sounds.index", "rain", "--rerank", "3", "--json"))["results"][0]["hits"]
    model = slap.load("model.ckpt")
    for hit in found[:3]:
        clip = torch.from_numpy(
            np.concatenate(
                list(Segment(f"sounds/{hit['path']}", hit["start"], hit["end"] - hit["start"]).blocks(16_000))
            )
        )
        assert hit["likelihood"] == pytest.approx(float(model.caption_likelihood([clip], ["rain"])), abs=1e-4)
    assert found[0]["likelihood"] >= found[1]["likelihood"] >= found[2]["likelihood"]
    assert (found[3]["likelihood"], found[3]["rank"]) == (None, 4)
    paged = run(capsys, "search", "sounds.index", "rain", "--rerank", "3", "--top", "2", "--offset", "2", "--json")
    assert json.loads(paged)["results"][0]["hits"] == found[2:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["rain", "--rerank", "5", "--without", "wind"], "--rerank is for texts alone"),
        (["--audio", "sounds/0/0.wav", "--threshold", "0"], "--threshold is for texts alone"),
        (["rain", "--rerank", "5000"], "--rerank takes 0 to 1000 files, got 5000"),
        (["rain", "--threshold", "0.5"], "fit one to labeled clips with `slap calibrate MODEL MANIFEST`"),
        (["rain", "--rerank", "5"], "re-ranked by the caption decoder, and the model writes no captions"),
        (["rain", "--calibration", "none.json"], "there is no calibration none.json; `slap calibrate` writes one"),
    ],
)
def test_searches_that_a_model_cannot_do(folder, capsys, options, message):
    write_checkpoint("plain.ckpt")
    run(capsys, "index", "plain.ckpt", "sounds", "sounds.index")
    assert main(["search", "sounds.index", *options]) == 2
    assert message in capsys.readouterr().err
