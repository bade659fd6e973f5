"""The checkpoint that a command on a recipe takes: the one that was named, or the run's best, and never in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slap.training.checkpoint.io import BEST, LAST
from slap.training.checkpoint.last import find_last
from slap.training.test_record import selected_on_test

UNTRAINED = "none"
"""The value of --ckpt_path that evaluates the model as the recipe makes it."""

HELP = {
    True: "continue the run of this checkpoint: a path, or `best` or `last` of the run's folder",
    False: "load the weights of this checkpoint: a path, `best` or `last` of the run's folder, or `none` for the "
    "untrained model (default: `best`, else `last`)",
}
"""Help of --ckpt_path, by whether the command trains."""


def named(asked: str, out: Path) -> Path:
    """Return the checkpoint that `--ckpt_path` names.

    Args:
        asked: a path, `best` or `last`.
        out: the run's folder.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = out / BEST if asked == "best" else find_last(out) or out / LAST if asked == "last" else Path(asked)
    if not path.is_file():
        there = ", ".join(str(found) for found in sorted(path.parent.glob("*.ckpt")))
        beside = f"beside it there are {there}" if there else f"{path.parent} holds no checkpoint (.ckpt)"
        raise FileNotFoundError(f"there is no checkpoint {path}; {beside}")
    return path


def to_evaluate(
    command: str,
    asked: str | None,
    out: Path,
    manifests: Mapping[str, Sequence[Path]],
    say: Callable[[str], None],
) -> Path | None:
    """Return the checkpoint that a command evaluates; None is the untrained model.

    Args:
        command: validate, test or predict.
        asked: the value of `--ckpt_path`, if it was given.
        out: the run's folder.
        manifests: of the data module, by split. A best checkpoint that the test clips selected is not taken unasked.
        say: receives a line that says which checkpoint is taken where none was named.

    Raises:
        FileNotFoundError: the one that was named is not there; or none was named, and the run has none.
    """
    if asked == UNTRAINED:
        say(f"{command} takes the untrained model, as --ckpt_path {UNTRAINED} says")
        return None
    if asked is not None:
        return named(asked, out)
    selected = command == "test" and selected_on_test(manifests)
    best = out / BEST
    found = best if best.is_file() and not selected else find_last(out)
    if found is None:
        raise FileNotFoundError(
            f"{out} holds no checkpoint to {command}: train by `slap fit`, name one by --ckpt_path, or give "
            f"--ckpt_path {UNTRAINED} for the untrained model"
        )
    why = "best" if found == best else "last, as the test clips selected its best" if selected else "last"
    say(f"{command} takes {found}, the run's {why}; --ckpt_path names another")
    return found
