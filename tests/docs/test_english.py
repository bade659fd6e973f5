"""The rules of English that a test can hold: docstrings, spelling, and a help text for every option."""

import argparse
import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src/slap", "encoders", "objectives", "datamodules", "recipes", "docs", ".ci")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

QUESTIONS = "what which how whether whoever whatever where when who whose have be"
"""Words that no docstring begins with."""

NO_VERBS = f"""{QUESTIONS}
a an the all each every both any some several same more most two three this that these those its their it there one no
none nothing if as so of for by in with from at until is are has audio embeddings scores clips"""
"""Words that the docstring of a function does not begin with, since an imperative comes first."""

BRITISH = re.compile(
    r"\b(?:\w*(?:colour|favour|honour|behaviour|neighbour|labelled|labelling|modelling|normalis|optimis|initialis|"
    r"tokenis|organis|recognis|utilis|serialis|localis|synthesis(?=e|ing)|visualis|minimis|maximis|summaris|"
    r"generalis|quantis|randomis|analys(?=e[sd]?\b|ing)|centre|metre\b|licence|catalogue|grey\b|learnt|whilst)\w*)",
    re.IGNORECASE,
)
KEPT = {"colours", "neighbours", "licence", "unlabelled", "unlabelled_share"}
"""Names of options that stay as they are."""


def documented(path):
    """Yield each node of a file that has a docstring, with its first word in lower case."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node)
            first = re.match(r"[\W_]*([A-Za-z'-]+)", text or "")
            if first:
                yield node, first[1].lower(), text


def is_imperative(node):
    """Tell whether the docstring of a node must begin with an imperative: functions, but for properties."""
    decorators = [ast.dump(decorator) for decorator in getattr(node, "decorator_list", ())]
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not any("property" in d for d in decorators)


def test_docstrings_begin_as_they_should():
    wrong = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"
        for path in FILES
        for node, first, text in documented(path)
        if first in (NO_VERBS if is_imperative(node) else QUESTIONS).split()
    ]
    assert not wrong, f"{len(wrong)} docstrings:\n" + "\n".join(wrong)


def test_spelling_is_american():
    pages = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *(ROOT / "docs").rglob("*.md")]
    wrong = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in [*FILES, *pages]
        if "generated" not in path.parts
        for word in BRITISH.findall(path.read_text(encoding="utf-8"))
        if word.lower() not in KEPT
    ]
    assert not wrong, f"{len(wrong)} words:\n" + "\n".join(wrong)


@pytest.fixture(scope="module")
def pages_of_the_documentation():
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    import command_pages
    import option_pages

    return command_pages, option_pages


def test_every_option_of_every_command_has_a_help(pages_of_the_documentation):
    commands, _ = pages_of_the_documentation
    parsers = commands.parsers()
    assert len(parsers) > 10
    missing = [
        f"slap {name}: {action.option_strings or action.dest}"
        for name, parser in parsers.items()
        for action in parser._actions
        if not action.help and action.help != argparse.SUPPRESS
    ]
    assert not missing


def test_every_option_of_every_recipe_has_a_help(pages_of_the_documentation):
    _, options = pages_of_the_documentation
    missing = [
        name
        for recipe in options.built_in()
        for part in options.PARTS
        for name, _, text in options.function_options(options.load(recipe), part, lightning=False)
        if not text
    ]
    assert not missing
