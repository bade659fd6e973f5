"""What every corpus keeps to, and that one from outside the package needs nothing but its own file."""

import inspect
import json
import subprocess
import sys
from typing import get_type_hints

import pytest

from slap.cli import main
from slap.datamodules.corpora.base import Corpus, templated, words
from slap.registry import arguments, find, plugins

CORPORA = {name: found for name, found in plugins("corpus").items() if not name.startswith(("toy_", "doctest_"))}


def test_the_built_in_corpora_are_registered():
    assert {"esc50"} <= set(CORPORA)


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_documents_itself_and_each_of_its_options(name):
    corpus = CORPORA[name]
    assert issubclass(corpus, Corpus)
    docs = inspect.getdoc(corpus)
    assert len(docs.split("\n")[0].split()) > 3
    options = arguments(corpus)
    assert next(iter(options)) == "root"
    assert get_type_hints(corpus.__init__).keys() >= options.keys()
    for option in options.values():
        assert f"    {option.name}: " in docs
        assert option.name == "root" or option.default is not option.empty


@pytest.mark.parametrize("name", CORPORA)
def test_a_root_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere"):
        CORPORA[name](tmp_path / "nowhere")


def test_corpora_import_nothing_heavy():
    heavy = "('torch', 'lightning', 'lhotse', 'numpy', 'soundfile', 'matplotlib')"
    code = f"import sys, slap.datamodules.corpora; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_corpus_from_outside_is_listed_with_its_options(tmp_path, capsys):
    (tmp_path / "my_corpora.py").write_text(
        "from pathlib import Path\n"
        "from slap import register\n"
        "from slap.datamodules import Clip, Corpus\n"
        "@register('toy_corpus')\n"
        "class Toy(Corpus):\n"
        "    '''A toy.'''\n"
        "    SPLITS = ('train', 'test')\n"
        "    def __init__(self, root: Path, loud: bool = False):\n"
        "        super().__init__(root)\n"
        "    def clips(self, split):\n"
        "        yield Clip('toy/1', self.root / '1.wav', ['a toy'], corpus='toy_corpus', split=split)\n"
    )
    assert main(["plugins", "--json", "--plugins", str(tmp_path / "my_corpora.py")]) == 0
    listed = json.loads(capsys.readouterr().out)["corpus"]
    assert listed["toy_corpus"]["about"] == "A toy."
    assert listed["toy_corpus"]["arguments"]["loud"] == {"type": "bool", "required": False, "default": False}
    assert {"esc50", "toy_corpus"} <= set(listed)
    assert find("corpus", "toy_corpus")(tmp_path).splits() == ("train", "test")
    assert main(["plugins"]) == 0
    assert "\ncorpora\n" in capsys.readouterr().out


def test_captions_from_labels():
    assert words("crying_baby") == "crying baby"
    assert templated("the sound of {label}", "rain") == "the sound of rain"
    assert templated("{label} can be heard", ["rain", "wind"]) == "rain and wind can be heard"
