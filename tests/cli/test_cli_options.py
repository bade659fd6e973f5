"""The options of `slap fit` on the built-in recipes are an interface: they change on purpose or not at all.

When one does, put what the failing test prints into the recipe's file in tests/golden.
"""

from pathlib import Path

import pytest
import yaml

from slap.cli.main import main
from slap.cli.recipe_source import built_in

GOLDEN = Path(__file__).parents[1] / "golden"

REQUIRED = {name: ["--data.train", "[train.csv]"] for name in ("base", "finetune")}


def options(recipe, capsys):
    """Every option, `--group.name`, one a line; what lies deeper is the value of an option."""
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--recipe", recipe, *REQUIRED.get(recipe, []), "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    groups = {name: config.pop(name) for name in ("model", "data", "trainer")}
    names = [f"--{name}" for name in config]
    return sorted([*names, *(f"--{group}.{name}" for group, values in groups.items() for name in values)])


@pytest.mark.parametrize("recipe", built_in())
def test_options_are_as_they_were(recipe, capsys):
    now = options(recipe, capsys)
    frozen = (GOLDEN / f"options_{recipe}.txt").read_text().split()
    assert now == frozen, "the options are now:\n" + "\n".join(now)
