"""The command line: quick, honest about mistakes, and able to repeat what it did."""

import resource
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
import torch
import yaml

from slap.cli import main as cli
from slap.cli.main import main
from slap.cli.recipe_cli import SEED
from slap.training.callbacks.learning_curves import draw

pytestmark = pytest.mark.usefixtures("fast_reports")

TOYS = Path(__file__).parents[1] / "support"
TOY = ["--recipe", str(TOYS / "toy_recipe.py")]
QUICK = ["--trainer.num_sanity_val_steps", "0", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("trained")
    options = ["--model.lr", "3e-4", "--data.max_duration", "0.8", "--trainer.max_steps", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slap.training.callbacks.learning_curves.draw", draw)  # this picture is looked at
        assert main(["fit", *TOY, *options, *QUICK, "--trainer.out", str(out)]) == 0
    return out


# -- the top level ----------------------------------------------------------------------------------------------------


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; from slap.cli.main import main; main(['--help'])\n"
        "print([name for name in ('torch', 'lightning', 'lhotse', 'numpy') if name in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.endswith("[]\n")
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0


def test_help_lists_every_command_with_what_it_does(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", "plugins", "prepare", "tokenizer"):
        line = next(line for line in text.split("\n") if line.startswith(f"  {command} "))
        assert len(line.split()) > 3
    assert "cannot be imported" not in text
    assert main([]) == 0
    assert capsys.readouterr().out == text


def test_both_names_are_the_same_program():
    scripts = {entry.name: entry.value for entry in entry_points(group="console_scripts", name="slap")}
    scripts |= {
        entry.name: entry.value
        for entry in entry_points(group="console_scripts", name="lightning")
        if entry.dist is not None and entry.dist.name == "slap-audio"
    }
    assert scripts == {"slap": "slap.cli.main:main", "lightning": "slap.cli.main:main"}


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("slap 0.")


def test_unknown_command(capsys):
    assert main(["fitt"]) == 2
    error = capsys.readouterr().err
    assert "there is no command 'fitt'; did you mean 'fit'? valid are: fit, validate, test, predict," in error


def test_commands_of_other_packages(tmp_path, monkeypatch, capsys):
    tmp_path.joinpath("other_package.py").write_text(
        '"""Count to a number.\n\nSlowly."""\n'
        "def configure(parser):\n"
        "    parser.add_argument('number', type=int)\n"
        "def run(arguments):\n"
        "    print(*range(1, arguments.number + 1))\n"
        "    return 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    entries = [
        EntryPoint("count", "other_package", "slap.commands"),
        EntryPoint("broken", "not_there", "slap.commands"),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: entries)
    assert main(["count", "3"]) == 7
    assert capsys.readouterr().out == "1 2 3\n"
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "  count      Count to a number.\n" in text
    assert "  broken     (cannot be imported: No module named 'not_there')\n" in text


@pytest.mark.parametrize("debug", [False, True])
def test_bugs_keep_their_traceback_and_messages_for_people_do_not(debug, monkeypatch, capsys):
    def bug(command, arguments):
        return [][3]

    def broken_value(command, arguments):
        int("x")  # a ValueError, but not one that somebody wrote a message for

    monkeypatch.setattr(cli, "_run", bug)
    with pytest.raises(IndexError):
        main(["--debug", "fit"] if debug else ["fit"])
    monkeypatch.setattr(cli, "_run", broken_value)
    with pytest.raises(ValueError, match="invalid literal"):
        main(["--debug", "fit"] if debug else ["fit"])


def test_debug_shows_where(capsys, monkeypatch):
    with pytest.raises(ValueError, match="there is no command"):
        main(["--debug", "nothing"])
    monkeypatch.setenv(cli.DEBUG, "1")
    with pytest.raises(ValueError, match="there is no command"):
        main(["nothing"])


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["fit"], ["`slap fit` needs --recipe: one of", "demo"]),
        (["fit", "--recipe", "dmeo"], ["there is no recipe 'dmeo'; did you mean 'demo'? valid are:", "base"]),
        (["fit", "--recipe", "nowhere/mine.py"], ["there is no file", "nowhere/mine.py"]),
        (["fit", *TOY, "--plugins", "no_such_losses"], ["there is no module 'no_such_losses' to load as plug-ins"]),
        (["fit", *TOY, "--model.lrr", "3"], ["--model.lrr", "did you mean '--model.lr'?", "--model.embedding_dim"]),
        (["fit", *TOY, "--trainer.precison", "16"], ["did you mean '--trainer.precision'?", "--trainer.max_steps"]),
        (["fit", *TOY, "--trainer.logger", "wandbb"], ["did you mean 'wandb'"]),
        (["fit", *TOY, "--modle.lr", "3"], ["unrecognized arguments: --modle.lr", "--seed_everything"]),
        (["fit", *TOY, "--model.lr", "fast"], ['"model.lr"', "float", "fast"]),
        (["fit", *TOY, "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["test", *TOY, "--ckpt_path", "nowhere.ckpt"], ["there is no checkpoint nowhere.ckpt"]),
        (
            ["fit", *TOY, "--trainer.max_steps", "-1", "--trainer.max_epochs", "1"],
            ["the schedules need the number of steps"],
        ),
    ],
)
def test_mistakes_get_a_message(arguments, messages, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "slap: error: " in error
    assert "Traceback" not in error
    for message in messages:
        assert message in error


def test_an_unknown_key_of_a_config_file(tmp_path, capsys):
    config = tmp_path / "mine.yaml"
    config.write_text("model:\n  lrr: 3\n")
    assert main(["fit", *TOY, "--config", str(config)]) == 2
    assert "does not accept option 'lrr'; did you mean '--model.lr'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def model(): ...\n", "`model` of the recipe .* must be annotated to return SLAP"),
        (
            "from slap.training.module import SLAP\ndef model() -> SLAP: ...\n",
            "has no function `data`; it needs model, data, ",
        ),
        ("import no_such_dependency\n", "no_such_dependency"),
    ],
)
def test_what_is_no_recipe(source, message, tmp_path, request):
    path = tmp_path / f"norecipe{abs(hash(source))}.py"
    path.write_text(source)
    with pytest.raises((ValueError, ModuleNotFoundError), match=message):
        main(["--debug", "fit", "--recipe", str(path)])


# -- options ----------------------------------------------------------------------------------------------------------


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *arguments, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_the_config_shows_defaults_and_what_was_asked(capsys):
    config = printed(capsys, *TOY, "--model.lr", "3e-4", "--trainer.precision", "bf16-mixed")
    assert config["model"] == {"audio": None, "objectives": {"contrastive": 1.0}, "embedding_dim": 16, "lr": 3e-4}
    assert config["data"] == {"batches": 3, "max_duration": 1.0}
    assert config["trainer"]["max_steps"] == 4
    assert config["trainer"]["gradient_clip_val"] == 1.0
    assert config["trainer"]["precision"] == "bf16-mixed"
    assert config["seed_everything"] == SEED
    assert config["recipe"] == TOY[1]


def test_plugins_of_the_command_line_join_those_of_a_config_file(tmp_path, capsys, monkeypatch):
    for name in ("plugins_one", "plugins_two", "plugins_three"):
        tmp_path.joinpath(f"{name}.py").write_text("")
    tmp_path.joinpath("mine.yaml").write_text(f"recipe: {TOY[1]}\nplugins: [plugins_one]\nmodel:\n  lr: 0.5\n")
    monkeypatch.chdir(tmp_path)
    options = ["--plugins", "plugins_two", "--config", "mine.yaml", "--plugins", "plugins_three.py"]
    config = printed(capsys, *options)
    assert config["plugins"] == ["plugins_two", "plugins_three.py", "plugins_one"]
    assert config["recipe"] == TOY[1]
    assert config["model"]["lr"] == 0.5
    assert {"plugins_one", "plugins_two", "plugins_three"} <= set(sys.modules)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--model.objectives", "{contrastive: 1.0, sigmoid: 0.1}", {"contrastive": 1.0, "sigmoid": 0.1}),
        ("--model.objectives", "{sigmoid: {weight: 0.5, scale: 3}}", {"sigmoid": {"weight": 0.5, "scale": 3}}),
        ("--model.objectives.contrastive", "0.5", {"contrastive": 0.5}),
        ("--model.objectives.sigmoid", "0.5", {"contrastive": 1.0, "sigmoid": 0.5}),
    ],
)
def test_objectives_as_a_mapping_or_one_by_one(option, value, expected, capsys):
    assert printed(capsys, *TOY, option, value)["model"]["objectives"] == expected


def test_help_shows_what_the_recipe_says(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TOY, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("A recipe outside the package, on noise", "A toy model:", "Clips of noise:", "A few steps:"):
        assert words in text
    assert "--model.lr LR the learning rate after warm-up. (type: float, default: 0.001)" in text
    assert "--trainer.overwrite {true,false} replace the run that the folder `out` holds." in text
    assert "--trainer.accelerator" in text


def test_help_without_a_recipe_lists_them(capsys):
    assert main(["fit", "--help"]) == 0
    text = capsys.readouterr().out
    assert "usage: slap fit --recipe NAME" in text
    assert "  demo  " in text


# -- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_everything_in_its_folder(trained):
    names = {path.name for path in trained.iterdir()}
    assert names >= {"best.ckpt", "last.ckpt", "metrics.csv", "curves.png", "config.yaml", "tensorboard"}
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_saved_config_repeats_the_run(trained, tmp_path):
    again = ["fit", "--config", str(trained / "config.yaml"), "--trainer.out", str(tmp_path)]
    assert main(again) == 0
    first, second = (torch.load(path / "last.ckpt", weights_only=True) for path in (trained, tmp_path))
    assert first["hyper_parameters"]["lr"] == 3e-4
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name


def test_a_run_is_not_overwritten_unless_asked(trained, capsys):
    before = (trained / "last.ckpt").read_bytes()
    assert main(["fit", "--config", str(trained / "config.yaml")]) == 2
    assert "holds a run already (metrics.csv, best.ckpt, last.ckpt, curves.png)" in capsys.readouterr().err
    assert (trained / "last.ckpt").read_bytes() == before


def test_a_checkpoint_brings_the_options_of_its_run(trained, capsys):
    rows = (trained / "metrics.csv").read_text().count("\n")
    for command, path in (("test", str(trained / "best.ckpt")), ("validate", str(trained / "last.ckpt"))):
        assert main([command, "--ckpt_path", path]) == 0
    text = (trained / "metrics.csv").read_text()
    assert text.count("\n") == rows + 2  # and the record of training is still there
    assert "test/t2a_R@1" in text.split("\n")[0]
    assert "train/loss" in text.split("\n")[0]


def test_best_and_last_are_those_of_the_folder(trained, tmp_path, capsys):
    options = ["--config", str(trained / "config.yaml")]
    assert main(["validate", *options, "--ckpt_path", "last"]) == 0
    assert main(["validate", *options, "--ckpt_path", "best", "--trainer.out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"there is no checkpoint {tmp_path / 'best.ckpt'}; {tmp_path} holds no checkpoint (.ckpt)" in said


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # noise has no position
@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # Lightning says that the best score starts anew there
def test_a_run_is_continued(trained, tmp_path):
    options = [
        *TOY,
        *QUICK,
        "--trainer.out",
        str(tmp_path),
        "--trainer.max_steps",
        "6",
        "--trainer.val_check_interval",
        "4",
        *("--trainer.changed_options", "accept"),
    ]
    assert main(["fit", *options, "--ckpt_path", str(trained / "last.ckpt")]) == 0
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 6
    steps = [line.split(",")[1] for line in (tmp_path / "metrics.csv").read_text().split("\n")[1:-1]]
    assert {int(step) for step in steps} == {4, 5}


def test_a_checkpoint_of_another_model(trained, capsys):
    assert main(["validate", *TOY, "--model.embedding_dim", "8", "--ckpt_path", str(trained / "last.ckpt")]) == 2
    error = capsys.readouterr().err
    assert "is of another model; give the options of its run" in error
    assert "size mismatch" in error


def test_predictions_are_written(trained, capsys):
    assert main(["predict", "--ckpt_path", str(trained / "last.ckpt")]) == 0
    found = torch.load(trained / "predictions.pt", weights_only=True)
    assert len(found["ids"]) == 12
    assert found["embeddings"].shape == (12, 16)
    torch.testing.assert_close(found["embeddings"].norm(dim=1), torch.ones(12))
    assert str(trained / "predictions.pt") in capsys.readouterr().out


def test_checkpoints_cannot_run_code(trained, tmp_path):
    class Payload:
        def __reduce__(self):
            return print, ("this must not run",)

    checkpoint = torch.load(trained / "last.ckpt", weights_only=True)
    torch.save({**checkpoint, "payload": Payload()}, tmp_path / "evil.ckpt")
    options = [*TOY, "--trainer.out", str(tmp_path)]
    with pytest.raises(Exception, match="Weights only load failed"):
        main(["--debug", "validate", *options, "--ckpt_path", str(tmp_path / "evil.ckpt")])


def test_two_recipes_in_one_process(capsys, tmp_path):
    copy = tmp_path / "second_recipe.py"
    copy.write_text(Path(TOY[1]).read_text().replace("lr: float = 1e-3", "lr: float = 0.25"))
    assert printed(capsys, *TOY)["model"]["lr"] == 1e-3
    assert printed(capsys, "--recipe", str(copy))["model"]["lr"] == 0.25


def test_the_main_module_is_the_program():
    done = subprocess.run([sys.executable, "-m", "slap", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("slap 0.")
