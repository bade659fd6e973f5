"""The tutorials run: their blocks, in the order of the pages, in one folder, with fewer clips and steps."""

import re
import sys
import traceback
from pathlib import Path

import pytest

import pages
from slap.cli.main import main

FOLDER = "docs/tutorials"
CORPUS = ["--data.train=40", "--data.val=36", "--data.test=60"]
DATA = ["--data.num_workers=0"]
FIT = ["--trainer.max_steps=2", "--model.warmup_steps=1", "--trainer.val_check_interval=2", "--trainer.accelerator=cpu"]
QUIET = ["--trainer.enable_progress_bar=false"]

SMALLER = {
    ("fit", "demo"): [*CORPUS, *FIT, *QUIET],
    ("test", "demo"): [*CORPUS, "--trainer.accelerator=cpu", *QUIET],
    ("fit", "own_data"): [*DATA, *FIT, *QUIET],
    ("fit", "finetune"): [*DATA, *FIT, *QUIET],
    ("fit", "classification"): [*DATA, *FIT, *QUIET],
}
"""Options that are appended to the commands on a recipe."""

NAMED = re.compile(r"# (\S+\.py)\n")
"""The first line of a block that is saved to a file."""


def names_of_pages():
    (toctree,) = re.findall(r"```\{toctree\}\n.*?\n\n(.*?)```", pages.Page(f"{FOLDER}/index.md").text, re.DOTALL)
    return toctree.split()


def run_command(words):
    recipe = words[words.index("--recipe") + 1] if "--recipe" in words else None
    assert main([*words[1:], *SMALLER.get((words[1], recipe), [])]) == 0


def run_block(language, content, names):
    """Run one block; `names` are those that the Python blocks of the page share."""
    named = NAMED.match(content)
    if language == "python" and named:
        Path(named[1]).write_text(content)
    elif language == "python":
        exec(compile(content, "tutorial", "exec"), names)
    elif language == "bash":
        commands = pages.commands_of(content)
        assert len(commands) == len(pages.commands_of(content, "")), "a bash block holds commands of slap alone"
        for words in commands:
            run_command(words)


@pytest.mark.slow
def test_the_tutorials_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        for page in names_of_pages():
            names = {"__name__": "__main__"}
            for number, (language, content) in enumerate(pages.Page(f"{FOLDER}/{page}.md").all_blocks(), 1):
                try:
                    run_block(language, content, names)
                except Exception:
                    pytest.fail(f"{page}.md, block {number}:\n{content}\n{traceback.format_exc()}")
    finally:
        for name in ("my_losses", "my_crops"):
            sys.modules.pop(name, None)
    assert (tmp_path / "runs/spread/last.ckpt").is_file()


def test_every_tutorial_is_listed_and_every_block_is_of_a_known_kind():
    files = {path.stem for path in (pages.ROOT / FOLDER).glob("*.md")} - {"index"}
    assert set(names_of_pages()) == files
    for page in files:
        languages = [language for language, _ in pages.Page(f"{FOLDER}/{page}.md").all_blocks()]
        assert set(languages) <= {"bash", "python", "console", "text"}
        assert languages.count("bash") >= 1
