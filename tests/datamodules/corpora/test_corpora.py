"""Rules for every corpus; a corpus from outside the package needs nothing but its own file."""

import inspect
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_type_hints

import pytest

from slap.cli.main import main
from slap.core.registry import arguments, find, plugins
from slap.datamodules import ManifestError, read_manifest
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus, words

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


# -- ESC-50 -----------------------------------------------------------------------------------------------------------

DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="module")
def esc50(tmp_path_factory):
    """Copy the real clips of ESC-10 to the layout of ESC-50."""
    if not (DATA / "esc50_layout.py").is_file():
        pytest.skip("the real recordings are not here")
    root = tmp_path_factory.mktemp("esc50")
    subprocess.run([sys.executable, DATA / "esc50_layout.py", root], check=True, capture_output=True)
    return root


def test_esc50_in_its_official_layout(esc50, tmp_path):
    assert main(["prepare", "esc50", str(esc50), str(tmp_path)]) == 0
    found = json.loads((tmp_path / "report.json").read_text())["splits"]["all"]
    assert (found["official"], found["listed"], found["found"], found["missing"]["count"]) == (2000, 320, 320, 0)
    cuts = read_manifest(tmp_path / "all.jsonl.gz")
    first = cuts[0]
    assert (first.id, first.duration, first.sampling_rate) == ("esc50/1-100032-A-0", 5.0, 44100)
    assert first.custom["origin"] == {"freesound": "100032"}
    assert (first.custom["labels"], first.custom["fold"]) == ({"esc50": "dog"}, 1)
    assert [part.text for part in first.supervisions] == ["the sound of dog"]
    assert {cut.custom["labels"]["esc50"] for cut in cuts} >= {"crying baby", "sea waves", "chainsaw"}
    assert Counter(cut.custom["fold"] for cut in cuts) == {1: 80, 2: 80, 3: 80, 4: 80}


def test_esc10_is_a_subset_of_esc50(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
        "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A\n"
    )
    corpus = find("corpus", "esc50")
    assert [clip.labels for clip in corpus(tmp_path).clips("all")] == [{"esc50": "dog"}, {"esc50": "chirping birds"}]
    assert [clip.labels for clip in corpus(tmp_path, subset="esc10").clips("all")] == [{"esc10": "dog"}]
    assert (corpus(tmp_path).official("all"), corpus(tmp_path, subset="esc10").official("all")) == (2000, 400)
    (tmp_path / "meta" / "esc50.csv").write_text("filename,fold\n1.wav,1\n")
    with pytest.raises(ManifestError, match=r"esc50\.csv, line 1: the column target, category, esc10, .* is missing"):
        list(corpus(tmp_path).clips("all"))
