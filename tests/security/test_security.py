"""The promises of SECURITY.md about the sources and what they depend on, and that each of its promises is tested.

Canaries, things that would leave a mark if a promise were broken, are in test_security_models and test_security_data.
"""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "encoders", "objectives", "datamodules", "recipes", "benchmarks")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]

UNPICKLERS = ("pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib")
NEEDED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
HANDED_ON = "weights_only=weights_only is not False"
"""What whoever calls Lightning's Trainer in Python says outright is handed on; without a word it is True."""

CALLS = ("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load")
ASKS = re.compile(r"(^|\.)(Auto\w+\.from_(pretrained|config)|kind\.from_pretrained|SentenceTransformer)$")
"""Calls that ask on the terminal whether to run a model's code, unless told."""

METHODS = (".load_from_checkpoint", ".extractall", ".load_state_dict_from_url")
OPTIONS = (("shell", True), ("trust_remote_code", True), ("weights_only", False), ("allow_pickle", True))


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Every call in a source, with the name of what is called, as far as it is written there."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def has(call: ast.Call, name: str, value: object) -> bool:
    return any(word.arg == name and getattr(word.value, "value", None) == value for word in call.keywords)


def unsafe(source: str) -> list[str]:
    """What must not stand in a source: ways to run what a file holds."""
    found, tree = [], ast.parse(source)
    for name, call in calls(tree):
        if name in NEEDED and not has(call, *NEEDED[name]) and HANDED_ON not in map(ast.unparse, call.keywords):
            found.append(f"{name} without {'='.join(map(str, NEEDED[name]))}")
        if ASKS.search(name) and not has(call, "trust_remote_code", False):
            found.append(f"{name} without trust_remote_code=False")
        if name in CALLS or name.endswith(METHODS):
            found.append(name)
        saves = name.endswith(".save_checkpoint")  # where weights_only says what is written
        found += [f"{name} with {word}={value}" for word, value in OPTIONS if has(call, word, value) and not saves]
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not all(alias.name.endswith("Error") for alias in node.names):
            names.append(node.module or "")
        found += [name for name in names if name.split(".")[0] in UNPICKLERS]
    return found


def test_no_source_can_unpickle_or_run_what_a_file_holds() -> None:
    found = {str(path.relative_to(ROOT)): unsafe(path.read_text()) for path in SOURCES}
    # That plug-ins survive a pickle of their own, as they do between processes, is checked there.
    assert {path: names for path, names in found.items() if names} == {"src/slap/testing/checks.py": ["pickle"]}
    assert sum("torch.load(" in path.read_text() for path in SOURCES) >= 2


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)", "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)", "np.load(path)", "import pickle", "yaml.load(text)",
        "from cloudpickle import loads", "eval(text)", "os.system(text)", "subprocess.run(text, shell=True)",
        "SLAP.load_from_checkpoint(path)", "tar.extractall(folder)", "A.from_pretrained(name, trust_remote_code=True)",
        "AutoTokenizer.from_pretrained(name)", "transformers.AutoModel.from_config(config)",
        "trainer.fit(model, ckpt_path=path, weights_only=False)",
    ],
)  # fmt: skip
def test_the_rule_finds_what_it_looks_for(source: str) -> None:
    assert unsafe(source)


# -- dependencies, and the document -----------------------------------------------------------------------------------


def test_compromised_and_leaky_releases_are_excluded() -> None:
    """lightning 2.6.2 and 2.6.3 were compromised; torch before 2.10 could be made to run code despite weights_only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {one.name: one for one in map(Requirement, project["dependencies"])}
    for name, wrong in (("lightning", ["2.6.2", "2.6.3", "2.6.0"]), ("torch", ["2.5.1", "2.9.1"])):
        for version in wrong:
            assert not needed[name].specifier.contains(version), (name, version)
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    for name in ("lightning", "torch"):
        assert needed[name].specifier.contains(pinned[name]), name
    assert pinned.get("pytorch-lightning") not in ("2.6.2", "2.6.3")


def test_every_promise_names_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 20
    for path, test in named:
        assert (ROOT / path).is_file(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), (path, test)
