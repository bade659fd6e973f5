"""Prompt sets: the published wordings, those of users, and what is said of mistakes in them."""

import pytest

from slap.evaluation.benchmarks import datasets
from slap.evaluation.prompts import PromptBook, Wording, parse


@pytest.mark.parametrize(
    ("name", "dataset", "label", "texts"),
    [
        ("laion", "esc50", "crying_baby", ["This is a sound of crying baby."]),
        ("laion", "gtzan", "jazz", ["This is a jazz song."]),
        ("msclap", "esc50", "rain", ["this is the sound of rain"]),
        ("wavcaps", "esc50", "rain", ["rain can be heard"]),
        ("wavcaps", "urbansound8k", "siren", ["siren"]),
        ("m2d-clap", "gtzan", "jazz", ["jazz music can be heard"]),
        ("m2d-clap", "cremad", "fear", ["someone talking with a sense of fear can be heard"]),
        ("glap", "esc50", "rain", ["The sound of rain can be heard."]),
        ("glap", "gtzan", "jazz", ["The music in the style of jazz."]),
        ("glap", "speechcommands", "yes", ["yes"]),
        ("audiosetcaps", "cremad", "anger", ["This clip is anger feeling"]),
        ("audiosetcaps", "ravdess", "calm", ["This emotion is calm"]),
        ("audiosetcaps", "gtzan", "jazz", ["jazz genre can be heard"]),
        ("maeb", "ravdess", "calm", ["this person is feeling calm"]),
        ("default", "cremad", "disgust", ["this person is feeling disgusted"]),
    ],
)
def test_published_wordings(name, dataset, label, texts):
    assert PromptBook.built_in(name).current.wording(dataset).of([label]) == [texts]


PINNED = {
    "audiosetcaps/cremad": "62f5957b9e84760b",
    "audiosetcaps/ravdess": "21a8c729259be0c9",
    "audiosetcaps/gtzan": "5bb859db8d954851",
    "bare/": "f3be0d05ae117672",
    "default/": "310a345bac6c289c",
    "default/gtzan": "a6609ba1a399d47f",
    "default/cremad": "b1547491dbee5bf9",
    "default/ravdess": "5cda0a8da7d8e113",
    "default/speechcommands": "73ae819f937edffc",
    "ensemble/": "e24ce77b5d98312a",
    "ensemble/gtzan": "965bef2db2d0298b",
    "ensemble/cremad": "e4c1a3b528af8e69",
    "ensemble/ravdess": "e4c1a3b528af8e69",
    "glap/": "ef2fe82faa66e7bd",
    "glap/gtzan": "aaee4b59ede0b2e5",
    "glap/speechcommands": "f3be0d05ae117672",
    "laion/": "310a345bac6c289c",
    "laion/gtzan": "a6609ba1a399d47f",
    "m2d-clap/": "b07ab6f750828922",
    "m2d-clap/gtzan": "08e35125bb8ed714",
    "m2d-clap/cremad": "ad66ded75a013b02",
    "maeb/ravdess": "cb8deca60bd61825",
    "msclap/": "528057eb4dbaf466",
    "wavcaps/": "b07ab6f750828922",
    "wavcaps/urbansound8k": "f3be0d05ae117672",
}


def test_what_a_set_says_is_pinned():
    """A changed wording is another set: give it another name."""
    book = PromptBook.built_in()
    hashes = {
        f"{name}/{dataset}": found.record(dataset)["sha256"]
        for name, found in sorted(book.sets.items())
        for dataset in ("", *found.own)
        if dataset or found.general
    }
    assert hashes == PINNED


def test_the_default_covers_every_data_set_with_labels():
    book = PromptBook.built_in()
    for name, dataset in datasets().items():
        if dataset.use != "captions":
            assert book.current.wording(dataset.prompts or name)
    assert len(PromptBook.built_in("ensemble").current.wording("esc50").of(["rain"])[0]) == 5


def test_a_set_of_the_user(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[mine]\nabout = "my own"\ntemplates = ["hear {label}", "{label}!"]\n'
        '[mine.esc50.texts]\ndog = ["woof"]\ncat = ["meow", "purr"]\n'
    )
    book = PromptBook.built_in("mine", [path])
    assert book.current.wording("gtzan").of(["jazz"]) == [["hear jazz", "jazz!"]]
    assert book.current.wording("esc50").of(["cat", "dog"]) == [["meow", "purr"], ["woof"]]
    assert book.current.record("esc50")["texts"] == {"dog": ["woof"], "cat": ["meow", "purr"]}
    with pytest.raises(ValueError, match=r"no text for \['cow'\]; there are texts for \['dog', 'cat'\]"):
        book.current.wording("esc50").of(["cow"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mine", "this is not TOML"),
        ("mine = 3", r"\[mine\]: a prompt set is a table"),
        ('[mine]\nabout = "x"', "there are no prompts"),
        ('[mine]\ntemplates = ["no place"]', r"list of texts with \{label\}, got \['no place'\]"),
        ('[mine]\ntemplate = ["{label}"]', "did you mean 'templates'?"),
        (
            '[mine.esc50]\ntemplate = ["{label}"]',
            r"\[mine.esc50\]: there is no 'template' here; did you mean 'templates'",
        ),
        ('[mine]\ntemplates = ["{label}"]\ntexts = {dog = ["x"]}', "either `templates` or `texts`"),
        ('[mine]\ntexts = {dog = "x"}', "maps labels to lists of texts"),
        ('[mine]\ntemplates = ["{label}"]\nwords = {dog = 3}', "`words` maps labels to texts"),
    ],
)
def test_mistakes_in_a_file_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text, "prompts.toml")


def test_names_that_are_not_there_or_taken(tmp_path):
    with pytest.raises(ValueError, match=r"no prompt set 'lion'; did you mean 'laion'?"):
        PromptBook.built_in("lion")
    (tmp_path / "mine.toml").write_text('[laion]\ntemplates = ["{label}"]')
    with pytest.raises(ValueError, match="a prompt set 'laion' already"):
        PromptBook.built_in("laion", [tmp_path / "mine.toml"])
    with pytest.raises(ValueError, match="the prompt set 'maeb' has no prompts for esc50, only for ravdess"):
        PromptBook.built_in("maeb").current.wording("esc50")


def test_labels_that_no_clip_has_are_told(caplog):
    wording = Wording(("{label}!",), words={"thunderstrom": "a storm"})
    with pytest.raises(ValueError, match=r"words for 'thunderstrom', which is no label; did you mean 'thunderstorm'\?"):
        wording.of(["cat", "thunderstorm"])
    wording = Wording(("{label}!",), words={"cow": "cattle", "dog": "hound"})
    assert wording.of(["cat", "dog"]) == [["cat!"], ["hound!"]]
    assert "no clip has a label of these for which there are prompts: cow" in caplog.text
