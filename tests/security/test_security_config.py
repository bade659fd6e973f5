"""Canaries for the promise of SECURITY.md about a `config.yaml` that lies beside a checkpoint.

It ran code through plug-ins that are modules, through links, through callbacks and through text augmentations.
"""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from slap.cli.main import main
from slap.cli.recipe_beside import plain_options, refuse_imports
from slap.core.errors import UserError
from slap.core.own_files import is_own, mark_own

HERE = Path(__file__)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A downloaded folder with a checkpoint and a module that must not be imported, from where `slap` is called."""
    (tmp_path / "beside_evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'mark')!r})\n")
    torch.save({}, tmp_path / "last.ckpt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    assert not (tmp_path / "mark").exists()


CODE = {
    "a plug-in": {"plugins": ["beside_evil"]},
    "a plug-in of the standard library": {"plugins": ["a.b.c"]},
    "a recipe": {"recipe": "./beside_evil.py"},
    "a recipe by its module": {"recipe": "beside_evil"},
    "a callback": {"trainer": {"callbacks": [{"class_path": "beside_evil.Callback"}]}},
    "a function on captions": {"data": {"text_augment": "cProfile.run"}},
    "a function on captions with a name": {"data": {"text_augment": {"name": "beside_evil.run"}}},
    "a transform": {"data": {"transforms": ["beside_evil.run"]}},
    "an augmentation": {"data": {"augment": {"noise": {"files": "beside_evil"}}}},
    "an encoder by its class": {"model": {"audio": {"class_path": "beside_evil.Audio"}}},
    "an encoder by its path": {"model": {"audio": "beside_evil.Audio"}},
    "an objective by its class": {"model": {"objectives": {"contrastive": {"class_path": "beside_evil.Loss"}}}},
    "a strategy": {"trainer": {"strategy": "beside_evil.Strategy"}},
    "a logger": {"trainer": {"logger": {"class_path": "beside_evil.Logger"}}},
    "a profiler": {"trainer": {"profiler": {"class_path": "beside_evil.Profiler"}}},
}
FILES = {
    "where results go": {"trainer": {"out": "/elsewhere"}},
    "what is overwritten": {"trainer": {"overwrite": True}},
    "manifests": {"data": {"test": ["/etc/passwd"]}},
    "a folder to write": {"data": {"folder": "/elsewhere"}},
    "a model to begin from": {"model": {"audio": {"name": "hf-clap", "pretrained": "some/model"}}},
    "another machine": {"data": {"remote_roots": ["http://example.org"]}},
    "weaker limits": {"data": {"max_decoded": 1e9}},
    "a part that is a file": {"data": "other.yaml"},
    "another config": {"config": "other.yaml"},
    "processes": {"data": {"num_workers": 10_000}},
}


def both(config: Path) -> None:
    refuse_imports(config, [])
    plain_options(config, {}, [])


@pytest.mark.parametrize("options", [*CODE.values(), *FILES.values()], ids=[*CODE, *FILES])
def test_an_unnamed_config_may_not_import_write_elsewhere_or_name_files(folder, options):
    (folder / "config.yaml").write_text(yaml.safe_dump({"recipe": "demo", **options}))
    ((part, value),) = options.items()
    key = f"{part}.{next(iter(value))}" if isinstance(value, dict) else part
    with pytest.raises(UserError, match="lies beside the checkpoint, is not what your own") as caught:
        both(folder / "config.yaml")
    assert f"\n  --{key} " in str(caught.value)
    assert "if you have read the file and trust it: --config" in str(caught.value)


@pytest.mark.parametrize("name", ["a plug-in", "a callback", "a function on captions", "manifests"])
def test_the_commands_refuse_it_too(folder, name, capsys):
    (folder / "config.yaml").write_text(yaml.safe_dump({"recipe": "demo", **{**CODE, **FILES}[name]}))
    for command in ("test", "fit"):
        assert main([command, "--ckpt_path", "last.ckpt"]) == 2
        assert "config.yaml, which lies beside the checkpoint, is not what" in capsys.readouterr().err


def test_a_linked_config_is_none_of_ones_own(folder):
    """The results of a downloaded checkpoint would go where the run of the linked config keeps its own."""
    mine = folder / "mine" / "config.yaml"
    mine.parent.mkdir()
    mine.write_text("recipe: demo\n")
    mark_own(mine)
    (folder / "config.yaml").symlink_to(mine)
    assert is_own(mine)
    assert not is_own(folder / "config.yaml")


def test_what_an_unnamed_config_may_carry(folder):
    config = {
        "seed_everything": 3,
        "recipe": "demo",
        "plugins": [],
        "model": {
            "audio": {"name": "transformer", "size": "nano", "mask_bands": 8},
            "text": "transformer",
            "objectives": {"contrastive": 1.0, "captioning": {"weight": 0.5, "layers": 2}},
            "betas": [0.9, 0.98],
            "micro_clips": None,
        },
        "data": {"folder": "runs/demo/corpus", "max_duration": 60.0, "text_augment": None},
        "trainer": {"out": "runs/demo", "precision": "bf16-mixed", "max_steps": 5},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    defaults = {"data": {"folder": "runs/demo/corpus"}, "trainer": {"out": "runs/demo"}, "plugins": []}
    assert refuse_imports(folder / "config.yaml", []) == "demo"
    taken = plain_options(folder / "config.yaml", defaults, [])
    expected = {**config, "data": {"max_duration": 60.0, "text_augment": None}}
    del expected["plugins"], expected["trainer"]["out"]
    assert taken == expected


def test_options_of_the_command_line_replace_what_is_refused(folder):
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"test": ["theirs.csv"], "seed": 3}}))
    assert plain_options(folder / "config.yaml", {}, ["--data.test", "[mine.csv]"]) == {"data": {"seed": 3}}
    assert plain_options(folder / "config.yaml", {}, ["--data.test=[mine.csv]"]) == {"data": {"seed": 3}}
    with pytest.raises(UserError, match=r"--data\.test \[\"theirs\.csv\"\]"):
        plain_options(folder / "config.yaml", {}, ["--data.tes"])


def test_a_name_cannot_steer_the_terminal(folder):
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"\x1b[2J\nslap": "\u202e"}}))
    with pytest.raises(UserError) as caught:
        plain_options(folder / "config.yaml", {}, [])
    assert r"--data.\x1b[2J\nslap" in str(caught.value)


TOY = HERE.parents[1] / "support" / "toy_recipe.py"
RUN = ["--recipe", str(TOY), "--trainer.max_steps", "1", "--trainer.enable_progress_bar", "false"]


@pytest.mark.usefixtures("fast_reports")
def test_ones_own_run_needs_no_config(tmp_path, monkeypatch, capsys):
    """Until its config is changed, or moved to another place."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    out = tmp_path / "run"
    assert main(["fit", *RUN, "--trainer.out", str(out), "--trainer.num_sanity_val_steps", "0"]) == 0
    assert is_own(out / "config.yaml")
    assert main(["validate", "--ckpt_path", str(out / "last.ckpt")]) == 0
    shutil.copytree(out, tmp_path / "copy")
    assert not is_own(tmp_path / "copy" / "config.yaml")
    assert main(["validate", "--ckpt_path", str(tmp_path / "copy" / "last.ckpt")]) == 2
    assert f'--recipe "{TOY}"' in capsys.readouterr().err
    with (out / "config.yaml").open("a") as file:
        file.write("\n")
    assert not is_own(out / "config.yaml")


@pytest.mark.usefixtures("fast_reports")
def test_a_home_that_cannot_be_written_is_said(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    out = tmp_path / "run"
    assert main(["fit", *RUN, "--trainer.out", str(out), "--trainer.num_sanity_val_steps", "0"]) == 0
    assert "cannot be remembered as yours" in caplog.text
    assert not is_own(out / "config.yaml")
