"""The checkpoint that `slap test`, `validate` and `predict` take, and what is left behind about it.

Without `--ckpt_path` they evaluated random weights, and overwrote the results of the run.
"""

import json
import shutil
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import slap
from slap.audio.reader import AudioError
from slap.cli.main import main
from slap.cli.recipe_checkpoint import to_evaluate
from slap.testing.tiny import tiny_checkpoint

TOY = ["--recipe", str(Path(__file__).parents[1] / "support" / "toy_recipe.py")]
QUICK = ["--trainer.num_sanity_val_steps", "0", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, fast_reports):
    out = tmp_path_factory.mktemp("run") / "out"
    options = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "2", "--trainer.out", str(out)]
    assert main(["fit", *TOY, *options, *QUICK]) == 0
    return out


def command(name, out, *more):
    return main([name, *TOY, *QUICK, "--trainer.out", str(out), *more])


def records(out):
    return {path.parent.name: json.loads(path.read_text()) for path in out.glob("test/*/results.json")}


def test_without_a_name_it_is_the_runs_best_and_said(run, capsys):
    assert command("test", run) == 0
    said = capsys.readouterr()
    assert f"slap: test takes {run / 'best.ckpt'}, the run's best; --ckpt_path names another" in said.err
    record = records(run)["clips-best"]
    path = run / "best.ckpt"
    step = torch.load(path, weights_only=True)["global_step"]
    assert record["model"] == {"path": str(path), "sha256": sha256(path.read_bytes()).hexdigest(), "step": step}
    assert record["schema"] == "slap-test/1"
    assert record["software"]["torch"] == version("torch")
    assert f"Checkpoint {path}, step {step}, sha256" in said.out


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # as the folder was copied
def test_without_a_best_it_is_the_last(run, tmp_path, capsys):
    shutil.copy(run / "last.ckpt", tmp_path)
    for name in ("test", "validate", "predict"):
        assert command(name, tmp_path) == 0
        assert f"slap: {name} takes {tmp_path / 'last.ckpt'}, the run's last" in capsys.readouterr().err
    predicted = torch.load(tmp_path / "predictions.pt", weights_only=True)
    assert predicted["checkpoint"]["step"] == 4


def test_the_untrained_model_must_be_asked_for(run, tmp_path, capsys):
    for name in ("test", "validate", "predict"):
        assert command(name, tmp_path) == 2
        message = capsys.readouterr().err
        assert f"{tmp_path} holds no checkpoint to {name}: train by `slap fit`, name one by --ckpt_path" in message
        assert "--ckpt_path none for the untrained model" in message
    assert not (tmp_path / "test").exists()
    before = records(run)
    assert command("test", run, "--ckpt_path", "none") == 0
    said = capsys.readouterr()
    assert "takes the untrained model" in said.err
    assert "The model is untrained: no checkpoint was loaded." in said.out
    after = records(run)
    assert after.pop("clips-none")["model"] == {"path": None, "sha256": None, "step": 0}
    assert after == before  # the results of the trained model stay


def test_a_best_that_the_test_clips_selected_is_not_taken_unasked(run):
    lines = []
    for manifests, name in (({"val": ["a"], "test": ["a"]}, "last"), ({"val": ["a"], "test": ["b"]}, "best")):
        assert to_evaluate("test", None, run, manifests, lines.append) == run / f"{name}.ckpt"
    assert "the run's last, as the test clips selected its best" in lines[0]


def test_a_checkpoint_that_is_not_finite_is_refused_by_name(run, tmp_path, capsys):
    """They gave 50.0 % and zeros."""
    content = torch.load(run / "last.ckpt", weights_only=True)
    content["state_dict"]["audio.embed.weight"][0, :3] = float("nan")
    content["state_dict"]["text_pool.query"][...] = float("inf")
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    size = content["state_dict"]["text_pool.query"].numel()
    for name in ("test", "validate", "predict"):
        assert command(name, tmp_path, "--ckpt_path", str(path)) == 2
        message = capsys.readouterr().err
        assert "audio.embed.weight (3 of 1280 values)" in message
        assert f"text_pool.query ({size} of {size} values)" in message


def test_slap_load_refuses_one_too(tmp_path):
    path = tmp_path / "last.ckpt"
    tiny_checkpoint(path)
    content = torch.load(path, weights_only=True)
    content["state_dict"]["audio.embed.weight"][0, :3] = float("nan")
    content["state_dict"]["text_pool.query"][...] = float("nan")
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"last.ckpt: the model's weights are not finite.*embed.weight \(3 of "):
        slap.load(path)
    model = slap.load(path, trust=True)  # to look at it
    with pytest.raises(AudioError, match="has an embedding that is not finite"):
        model.embed_audio(torch.rand(800))
    with pytest.raises(ValueError, match=r"1 of 1 texts have an embedding that is not finite, or zeros, e.g. 'a dog'"):
        model.embed_text("a dog")
    for words in (["embed", path, tmp_path], ["classify", path, tmp_path, "--labels", "a", "b"]):
        assert main([*map(str, words), *(["--out", str(tmp_path / "e.parquet")] if words[0] == "embed" else [])]) == 2
