"""Canaries for the promises of SECURITY.md about models and settings."""

import os
import pickle
import socket
from pathlib import Path

import pytest
import torch
import yaml

import slap
from slap.cli.main import main
from slap.core.files import read_yaml
from slap.core.registry import find
from slap.testing.tiny import tiny_checkpoint

ROOT = Path(__file__).parents[2]


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path):
    """A path that must not exist in the end."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments):
        raise AssertionError(f"somebody connects to {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_canary_sings(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", ["model.ckpt", "model.bin", "model.pt"])
def test_loading_a_model_unpickles_nothing(tmp_path: Path, mark: Path, name: str, trust: bool) -> None:
    tiny_checkpoint(tmp_path / "good.ckpt")
    content = torch.load(tmp_path / "good.ckpt", weights_only=True)
    torch.save({**content, "payload": Canary(mark)}, tmp_path / name)
    with pytest.raises(ValueError, match=r"more than tensors and plain data|is no checkpoint"):
        slap.load(tmp_path / name, trust=trust)


TOY = ["--recipe", str(ROOT / "tests" / "support" / "toy_recipe.py")]


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_continuing_from_a_checkpoint_unpickles_nothing(tmp_path: Path, mark: Path, command: str) -> None:
    torch.save({"hyper_parameters": {}, "state_dict": {}, "payload": Canary(mark)}, tmp_path / "evil.ckpt")
    options = [*TOY, "--trainer.out", str(tmp_path / "out"), "--trainer.enable_progress_bar", "false"]
    with pytest.raises(Exception, match=r"[Ww]eights.only|more than tensors|damaged|checksum"):
        main(["--debug", command, *options, "--ckpt_path", str(tmp_path / "evil.ckpt")])


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "address", ["http://localhost/m.ckpt", "https://example.org/m.ckpt", "s3://b/m.ckpt", "hf://a/b"]
)
def test_models_are_not_fetched(tmp_path: Path, address: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError, match="is an address; models are loaded from files and folders"):
        slap.load(address)
    assert main(["validate", *TOY, "--trainer.out", str(tmp_path), "--ckpt_path", address]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_a_model_imports_no_code(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the names of its plug-ins, nor from its folder, nor from where the user stands."""
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "good.ckpt")
    content = torch.load(tmp_path / "good.ckpt", weights_only=True)
    for name in ("evil", "evil.Audio", str(tmp_path / "evil.py")):
        content["hyper_parameters"]["audio"] = {"name": name}
        torch.save(content, tmp_path / "model.ckpt")
        with pytest.raises(ValueError, match="there is no audio encoder"):
            slap.load(tmp_path / "model.ckpt")
        with pytest.raises(ValueError, match="there is no objective"):
            find("objective", name)


@pytest.mark.parametrize("by", ["recipe", "plugins"])
@pytest.mark.parametrize("name", ["path", "module"])
def test_a_config_beside_a_checkpoint_imports_nothing_of_its_folder(
    tmp_path: Path, mark: Path, by: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The folder may have been downloaded; a config that is named by the user is another thing."""
    (tmp_path / "evil_beside.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    monkeypatch.chdir(tmp_path)
    module = str(tmp_path / "evil_beside.py") if name == "path" else "evil_beside"
    config = {"recipe": "demo", "plugins": [module]} if by == "plugins" else {"recipe": module}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save({}, tmp_path / "last.ckpt")
    assert main(["test", "--ckpt_path", str(tmp_path / "last.ckpt")]) == 2
    said = capsys.readouterr().err
    assert "lies beside the checkpoint" in said
    assert module in said


# -- settings ---------------------------------------------------------------------------------------------------------

TAGS = ["!!python/object/apply:os.mkdir [{mark}]", "!!python/object/new:os.mkdir [{mark}]", "!!python/name:os.mkdir"]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_makes_no_objects(tmp_path: Path, mark: Path, tag: str, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.yaml").write_text("x: " + tag.format(mark=mark))
    with pytest.raises(ValueError, match="cannot be read as YAML of plain data"):
        read_yaml(tmp_path / "config.yaml")
    assert main(["fit", "--config", str(tmp_path / "config.yaml")]) == 2
    assert main(["fit", *TOY, "--trainer.out", str(tmp_path / "o"), "--model.objectives", tag.format(mark=mark)]) == 2
    capsys.readouterr()


@pytest.mark.parametrize("text", ["[1, 2]", "- a", "a: [", "\t:", "just text", "a: &a [*a"])
def test_settings_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml (must hold|cannot be read)"):
        read_yaml(tmp_path / "config.yaml")
