"""`slap.load("starter")` is the model that comes with the package, everywhere where a model is named."""

import configparser
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import pages
import slap
import slap.onnx
from slap.cli.main import main
from slap.inference import shipped
from slap.training.warm_start import WarmStart


@pytest.fixture
def model(tiny_checkpoint):
    return slap.load(tiny_checkpoint, device="cpu")


@pytest.fixture
def starter(model, tmp_path, monkeypatch):
    """A tiny model in the place of the one that comes with the package; the working directory is another folder."""
    model.save_pretrained(tmp_path / "package" / "starter")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package" / "starter")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    soundfile.write("a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 16_000), 16_000)
    return model.name


def test_the_name_is_the_model_of_the_package(starter):
    assert slap.load("starter").name == starter
    assert slap.Model.from_pretrained("starter").name == starter
    assert WarmStart.read("starter").path == "starter"  # for --model.start


def test_a_file_of_that_name_does_not_take_its_place(starter, model, caplog):
    other = model.backend.arguments
    model.save_pretrained("starter", without=["captioning"])
    assert slap.load("starter").name == starter
    assert "which is named ./starter" in caplog.text
    for path in ("./starter", Path("starter"), Path("starter").resolve()):
        assert slap.load(path).name != starter
    assert "captioning" in other["objectives"]


def test_a_package_without_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"comes without the model 'starter': .*nothing.*install another build"):
        slap.load("starter")


def test_a_name_that_is_nearly_right(starter):
    with pytest.raises(ValueError, match=r"no model startr, neither .* did you mean 'starter'\?"):
        slap.load("startr")


@pytest.mark.slow
def test_the_commands_take_the_name(starter, capsys):
    Path("sounds").mkdir()
    shutil.copy("a.wav", "sounds/a.wav")
    for command in (
        "classify starter a.wav --labels dog rain",
        "caption starter a.wav",
        "embed starter a.wav --out table.parquet",
        "index starter sounds sounds.index --window 1",
        "search sounds.index rain",
        "export starter copy --precision float16",
        "frames starter a.wav --texts rain",
    ):
        assert main([*command.split(), *(["--device", "cpu"] if "export" not in command else [])]) == 0, command
    assert json.loads(Path("sounds.index/slap-index.json").read_text())["model"] == "starter"
    assert "a.wav" in capsys.readouterr().out


def test_the_wheel_has_a_place_for_it_and_it_is_small():
    config = configparser.ConfigParser()
    config.read(pages.ROOT / "setup.cfg")
    assert config["options.package_data"]["slap.inference"] == "starter/*"
    folder = pages.ROOT / "src/slap/inference/starter"
    assert sum(path.stat().st_size for path in folder.glob("*")) <= shipped.LARGEST
    assert not [path for path in folder.glob("*") if path.is_dir()]
    if folder.exists():
        assert slap.load("starter", device="cpu").embed_text(["rain"]).isfinite().all()


@pytest.mark.parametrize(("precision", "error"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_weights_in_half_precision(model, tmp_path, precision, error):
    model.save_pretrained(tmp_path / "full")
    model.save_pretrained(tmp_path / "half", precision=precision)
    again = slap.load(tmp_path / "half", device="cpu")
    assert {value.dtype for value in again.backend.network.parameters()} == {torch.float32}
    stored = load_file(tmp_path / "half/model.safetensors")
    assert {value.dtype for value in stored.values() if value.dim()} == {getattr(torch, precision)}
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.65 * sizes[1]
    audio = torch.rand(40_000, generator=torch.Generator().manual_seed(0)) - 0.5
    assert (again.embed_audio(audio) - model.embed_audio(audio)).abs().max() < error
    assert again.name != model.name
    assert precision in (tmp_path / "half/README.md").read_text()
    assert slap.load(tmp_path / "half", device="cpu", dtype="bfloat16").backend.dtype == torch.bfloat16


def test_values_too_large_for_half_precision_are_refused(model, tmp_path):
    model.backend.network.audio_pool.query.data[0] = 1e6
    with pytest.raises(ValueError, match=r"audio_pool\.query has values that are too large for float16"):
        model.save_pretrained(tmp_path / "half", allow_collapsed=True, precision="float16")


def test_an_objective_can_be_left_out(model, tmp_path):
    model.save_pretrained(tmp_path / "less", without=["captioning", "contrastive"])
    less = slap.load(tmp_path / "less", device="cpu")
    audio = torch.rand(40_000, generator=torch.Generator().manual_seed(0)) - 0.5
    assert torch.equal(less.embed_audio(audio), model.embed_audio(audio))
    assert less.calibration == model.calibration
    with pytest.raises(ValueError, match="left out when the model was exported"):
        less.caption(audio)
    with pytest.raises(ValueError, match=r"no objective 'caption' to leave out; did you mean 'captioning'"):
        model.save_pretrained(tmp_path / "other", without=["caption"])


@pytest.mark.slow
def test_the_starter_without_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    assert main(["export", "starter", str(tmp_path / "out"), "--onnx"]) == 0
    model, light = slap.load("starter", device="cpu"), slap.onnx.load(tmp_path / "out")
    rng = np.random.default_rng(0)
    clips = [(rng.uniform(-0.5, 0.5, n).astype(np.float32), 16_000) for n in (1600, 16_000, 1_000_000)]
    np.testing.assert_allclose(light.embed_audio(clips), model.embed_audio(clips), rtol=0, atol=1e-4)
    labels = ["dog bark", "rain", "seven"]
    np.testing.assert_allclose(light.embed_labels(labels), model.embed_labels(labels), rtol=0, atol=1e-4)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-sa-4.0" in card
    assert "Free Spoken Digit Dataset" in card  # of its own card
