"""Fuzzing in small, and every find of it by name. `make fuzz` runs a hundred thousand cases; see tests/fuzz/run.py."""

from pathlib import Path

import pytest

from slap.core.registry import load_module

run = load_module(str(Path(__file__).parents[1] / "fuzz" / "run.py"))

CASES = 2400  # of all targets together


@pytest.mark.parametrize("target", run.TARGETS)
def test_random_cases(target):
    outcome = run.try_cases(target, range(run.share_of(target, CASES)))
    assert outcome.cases == run.share_of(target, CASES)
    assert not outcome.finds, "\n".join(
        f"case {find['number']}: {find['what']}\n{find['trace']}" for find in outcome.finds
    )


def test_there_are_two_thousand_of_them():
    assert sum(run.share_of(target, CASES) for target in run.TARGETS) >= 2000


def test_what_is_forbidden_is_seen():
    """The watch over processes and connections is a test only if it would find one."""
    import subprocess

    with run.WATCH.watching(), pytest.raises(AssertionError, match=r"subprocess\.Popen was called"):
        subprocess.run(["true"], check=True)
    subprocess.run(["true"], check=True)
