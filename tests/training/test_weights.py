"""The averages of the weights in use: loaded, exported, validated and tested by `--weights ema`."""

import json

import pytest
import torch

import slap
from slap.cli.main import main
from slap.core.packed import Packed
from slap.model.views import Views
from slap.testing.tiny import CAPTIONS, tiny_batch

NANO = {"name": "transformer", "size": "nano"}
SMALL = {"layers": 1, "heads": 2, "width": 32, "hidden": 64}
OBJECTIVES = {"contrastive": 1.0, "captioning": SMALL, "classification": {"task": "kind", "classes": ["dog", "rain"]}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model whose averages differ from its weights, and its checkpoint."""
    torch.manual_seed(0)
    model = slap.SLAP(NANO, {**NANO, "vocab_size": 320}, OBJECTIVES, embedding_dim=16, ema=True)
    model.text.prepare(CAPTIONS)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn_like(parameter)
    content = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    path = tmp_path_factory.mktemp("weights") / "model.ckpt"
    torch.save(content, path)
    return model.eval(), path


def test_load_takes_the_averages(trained):
    model, path = trained
    raw, ema = slap.load(path, "cpu"), slap.load(path, "cpu", weights="ema")
    clip, text = torch.rand(9_000) - 0.5, ["a dog barks"]
    teacher = model.teacher
    with torch.no_grad():
        tokens = teacher.copy_of(model.audio)(model.audio.patchify(Packed.pack([clip])))
        expected = teacher.copy_of(model.audio_pool)(tokens)
        words = teacher.copy_of(model.text_pool)(teacher.copy_of(model.text)(model.text.tokenize(text)))
    torch.testing.assert_close(ema.embed_audio(clip)[0], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ema.embed_text(text)[0], words[0], rtol=1e-4, atol=1e-5)
    assert (raw.embed_audio(clip) @ expected[0]).item() < 0.9999
    assert raw.name != ema.name
    assert ema.calibration != raw.calibration
    head = teacher.copy_of(model.objectives["classification"]).linear.weight
    assert torch.equal(ema.backend.heads["classification"].linear.weight, head)


def test_an_exported_folder_says_which_weights_it_has(trained, tmp_path, capsys):
    _, path = trained
    assert main(["export", str(path), str(tmp_path / "out"), "--weights", "ema", "--allow-collapsed"]) == 0
    capsys.readouterr()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["weights"] == "ema"
    assert "exponential moving averages" in (tmp_path / "out" / "README.md").read_text()
    assert slap.load(tmp_path / "out", "cpu").name == slap.load(path, "cpu", weights="ema").name
    (tmp_path / "x.wav").touch()
    classify = ["classify", str(tmp_path / "out"), str(tmp_path / "x.wav"), "--labels", "dog", "--weights", "ema"]
    assert main(classify) == 2
    assert "is a folder with one set of weights" in capsys.readouterr().err


def test_what_has_no_averages_is_refused(trained, tmp_path, tiny_checkpoint):
    with pytest.raises(ValueError, match="weights must be one of raw, ema; got 'best'"):
        slap.load(trained[1], "cpu", weights="best")
    with pytest.raises(ValueError, match="is a folder with one set of weights"):
        slap.load(tmp_path, "cpu", weights="ema")
    with pytest.raises(ValueError, match=r"has no averages .*trained without; `ema: true` of the model"):
        slap.load(tiny_checkpoint, "cpu", weights="ema")
    content = torch.load(trained[1], weights_only=True)
    del content["averages"]
    torch.save(content, tmp_path / "older.ckpt")
    with pytest.raises(ValueError, match="averaged the audio side alone"):
        slap.load(tmp_path / "older.ckpt", "cpu", weights="ema")
    assert slap.load(tmp_path / "older.ckpt", "cpu").name == slap.load(trained[1], "cpu").name


RECIPE = """
from typing import Any
from slap import SLAP
from lightning.pytorch import LightningDataModule, Trainer
import toy_recipe
from slap.testing.tiny import WIDTH, TinyAudio, TinyText


def model(lr: float = 0.1, ema: bool = True) -> SLAP:
    "A toy."
    return SLAP(TinyAudio(), TinyText(), {"contrastive": 1.0}, WIDTH, lr=lr, warmup_steps=0, ema=ema)


def data(batches: int = 3) -> LightningDataModule:
    "Noise."
    return toy_recipe.data(batches)


def trainer(out: str = "run", max_steps: int = 4, **options: Any) -> Trainer:
    '''Quick.

    Args:
        **options: any other option of `toy_recipe.trainer`.
    '''
    return toy_recipe.trainer(out=out, max_steps=max_steps, **options)
"""


@pytest.mark.usefixtures("fast_reports")
def test_the_commands_of_a_run_take_the_averages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "averaged.py").write_text(RECIPE)
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
    assert main(["fit", "--recipe", "averaged.py", *quiet]) == 0
    found = {}
    for weights in ("raw", "ema"):
        predict = ["predict", "--recipe", "averaged.py", "--ckpt_path", "last", "--weights", weights, *quiet]
        assert main(predict) == 0, capsys.readouterr().err
        found[weights] = torch.load(tmp_path / "run" / "predictions.pt", weights_only=True)["embeddings"]
    assert not torch.allclose(found["raw"], found["ema"], atol=1e-3)
    model = load_run(tmp_path / "run" / "last.ckpt")
    batch = tiny_batch(model, [0.4, 0.1, 0.3, 0.2], seed=0)
    with torch.no_grad():
        torch.testing.assert_close(found["ema"][:4], Views(model, batch).teacher.embedding, rtol=1e-4, atol=1e-5)
    for command in ("validate", "test"):
        assert main([command, "--recipe", "averaged.py", "--ckpt_path", "last", "--weights", "ema", *quiet]) == 0
    without = [
        "test",
        "--recipe",
        "averaged.py",
        "--ckpt_path",
        "none",
        "--model.ema",
        "false",
        "--weights",
        "ema",
        *quiet,
    ]
    assert main(without) == 2
    assert "set --model.ema true" in capsys.readouterr().err


def load_run(path):
    from toy_recipe import TinyAudio, TinyText

    content = torch.load(path, weights_only=True)
    model = slap.SLAP(TinyAudio(), TinyText(), {"contrastive": 1.0}, embedding_dim=16, ema=True)
    model.load_state_dict(content["state_dict"])
    return model.eval()
