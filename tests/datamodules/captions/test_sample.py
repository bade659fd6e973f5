"""Sampling of training captions, and their augmentation."""

import json
import pickle
import random
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch

from epochs import epoch, tokenize
from slap.core.batch import fingerprint
from slap.datamodules import AudioTextData, Clip, ManifestError, read_manifest, write_manifest
from slap.datamodules.augment.basic import Mix
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.captions.augment import DropWords, text_augmentation
from slap.datamodules.captions.sample import CaptionSampler

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 clips with two captions, one of tags and, but for every third, one of a template."""
    folder = tmp_path_factory.mktemp("fields")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(12):
        soundfile.write(folder / f"{i}.wav", rng.uniform(-0.5, 0.5, 2000), RATE)
        captions = [f"a sound {i % 4} is heard", f"one hears {i}", f"tags {i}"]
        fields = ["caption", "caption", "tags"]
        if i % 3:
            captions.append(f"this is {i}")
            fields.append("template")
        clips.append(Clip(f"c{i}", folder / f"{i}.wav", captions, fields=fields))
    write_manifest(folder / "train.jsonl", clips)
    return folder


def module(folder, **options):
    data = AudioTextData(
        folder / "train.jsonl", folder / "train.jsonl", **{"max_duration": 0.6, **options, "max_clip": None}
    )
    data.connect(RATE, tokenize)
    return data


# -- fields -----------------------------------------------------------------------------------------------------------


def test_fields_come_as_often_as_they_are_probable(folder):
    (cut, *_) = [cut for cut in read_manifest(folder / "train.jsonl") if cut.id == "c1"]
    choice = CaptionSampler({"caption": 0.6, "tags": 0.3, "template": 0.1})
    drawn = Counter(choice.draw(cut, random.Random(i)).text for i in range(4000))
    assert drawn["a sound 1 is heard"] / 4000 == pytest.approx(0.3, abs=0.03)
    assert drawn["one hears 1"] / 4000 == pytest.approx(0.3, abs=0.03)
    assert drawn["tags 1"] / 4000 == pytest.approx(0.3, abs=0.03)
    assert drawn["this is 1"] / 4000 == pytest.approx(0.1, abs=0.03)


def test_where_a_field_is_missing_the_others_keep_their_proportions(folder):
    (cut, *_) = [cut for cut in read_manifest(folder / "train.jsonl") if cut.id == "c0"]
    choice = CaptionSampler({"template": 0.9, "tags": 0.05, "caption": 0.05})
    drawn = Counter(choice.draw(cut, random.Random(i)).text.split()[0] for i in range(2000))
    assert set(drawn) == {"a", "one", "tags"}
    assert drawn["tags"] / 2000 == pytest.approx(0.5, abs=0.05)


def test_training_draws_fields_and_evaluation_takes_all_that_are_not_made_of_labels(folder):
    data = module(folder, caption_fields={"tags": 1.0})
    for batch in epoch(data):
        assert all(text.startswith("tags ") for text in batch.captions)
        assert len(batch.pairs) == sum(4 if int(name[1:]) % 3 else 3 for name in batch.ids)  # all are positives
    assert sum(len(batch.captions) for batch in data.val_dataloader()) == 12 * 3  # the 8 of the field "template" are


def test_a_clip_without_any_of_the_fields_is_bad_and_says_so(folder):
    data = module(folder, caption_fields={"template": 1.0}, max_bad=0.5)
    batches = epoch(data)
    assert {clip.id for batch in batches for clip in batch.bad} >= {"c0", "c3", "c6", "c9"}
    assert all(text.startswith("this is ") for batch in batches for text in batch.captions)
    cut = read_manifest(folder / "train.jsonl")[0]
    with pytest.raises(ClipError, match="caption_fields are tegs, but the clip has captions of caption, tags"):
        CaptionSampler({"tegs": 1.0}).draw(cut, random.Random(0))


@pytest.mark.parametrize("fields", [{}, {"caption": 0}, {"caption": -1.0}])
def test_probabilities_are_above_0(folder, fields):
    with pytest.raises(ValueError, match="caption_fields must give fields probabilities above 0"):
        module(folder, caption_fields=fields)


def test_without_fields_nothing_is_drawn_otherwise_than_before(folder):
    """Draw as before there were fields: `random.Random("seed epoch clip").choice`."""
    for batch in epoch(module(folder), 3):
        for name, text in zip(batch.ids, batch.captions, strict=True):
            cut = read_manifest(folder / "train.jsonl")[int(name[1:])]
            assert text == random.Random(f"0 3 {name[1:]}").choice(cut.supervisions).text


def test_columns_of_a_csv(folder, tmp_path):
    (tmp_path / "m.csv").write_text(
        "audio,caption,caption_2,caption_tags,caption_tags_2,caption_by_machine\n"
        f"{folder}/0.wav,one,two,t1,t2,made\n"
        f"{folder}/0.wav,three,,,,\n"
        f"{folder}/1.wav,only,,,,\n"
    )
    first, second = read_manifest(tmp_path / "m.csv")
    assert [(part.text, (part.custom or {}).get("field", "caption")) for part in first.supervisions] == [
        ("one", "caption"),
        ("two", "caption"),
        ("t1", "tags"),
        ("t2", "tags"),
        ("made", "by_machine"),
        ("three", "caption"),
    ]
    assert second.supervisions[0].custom is None


def test_json_lines_say_fields_in_either_way(folder, tmp_path):
    audio = str(folder / "0.wav")
    rows = [
        {"id": "a", "audio": audio, "caption": ["x", "y"], "fields": ["caption", "tags"]},
        {"id": "b", "audio": audio, "caption_tags": ["x", "y"]},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    a, b = read_manifest(tmp_path / "m.jsonl")
    assert [part.custom["field"] for part in a.supervisions] == ["caption", "tags"]
    assert [part.custom["field"] for part in b.supervisions] == ["tags", "tags"]
    (tmp_path / "m.jsonl").write_text(json.dumps({**rows[0], "fields": ["tags"]}))
    with pytest.raises(ManifestError, match=r"line 1: `fields` must be a list with a name for each of the 2 captions"):
        read_manifest(tmp_path / "m.jsonl")


# -- augmentation -----------------------------------------------------------------------------------------------------


def shout(text, rng):
    return text.upper() if rng.random() < 0.5 else text


def blank(text, rng):
    return " "


def test_captions_change_in_training_and_not_in_evaluation(folder):
    data = module(folder, text_augment=shout)
    texts = [text for number in range(4) for batch in epoch(data, number) for text in batch.captions]
    assert 10 < sum(text.isupper() for text in texts) < 38
    assert not any(text.isupper() for batch in data.val_dataloader() for text in batch.captions)
    for batch in epoch(data):
        assert batch.text.values.equal(tokenize(batch.captions).values)


def test_a_changed_caption_still_describes_all_its_clips(folder):
    """c0, c4 and c8 share "a sound 0 is heard"; whatever becomes of it in one of them is true of the others."""
    data = module(folder, text_augment=str_upper, max_duration=5.0)
    (batch,) = epoch(data)
    plain = {text.upper(): text for cut in read_manifest(folder / "train.jsonl") for text in texts(cut)}
    assert torch.equal(batch.caption_key, fingerprint([plain[text] for text in batch.captions]))
    pairs = set(map(tuple, batch.pairs.tolist()))
    shared = fingerprint(["a sound 0 is heard"])[0].item()
    for name in ("c0", "c4", "c8"):
        assert (fingerprint([name])[0].item(), shared) in pairs


def str_upper(text, rng):
    return text.upper()


def texts(cut):
    return [part.text for part in cut.supervisions]


def test_what_a_transform_writes_is_another_caption(folder):
    data = module(folder, text_augment=str_upper, transforms=[Mix(probability=1.0)], max_duration=5.0)
    (batch,) = epoch(data)
    mixed = [i for i, name in enumerate(batch.ids) if "+" in name]
    assert mixed
    for i in mixed:
        assert " and " in batch.captions[i]
        assert batch.caption_key[i] == fingerprint([batch.captions[i]])[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_is_drawn_by_clip_and_epoch_alone(folder, workers):
    expected = {}
    for batch in epoch(module(folder, text_augment=shout, max_duration=5.0), 1):
        expected |= dict(zip(batch.ids, batch.captions, strict=True))
    data = module(folder, text_augment=shout, num_workers=workers)
    found = {}
    for batch in epoch(data, 1):
        found |= dict(zip(batch.ids, batch.captions, strict=True))
    assert found == expected
    data.teardown("fit")


def test_augmentation_moves_no_other_draw(folder):
    plain, changed = (epoch(module(folder, text_augment=augment), 2) for augment in (None, str_upper))
    assert [batch.ids for batch in plain] == [batch.ids for batch in changed]
    assert [[text.upper() for text in batch.captions] for batch in plain] == [[*batch.captions] for batch in changed]


def test_augmentation_must_give_text(folder):
    with pytest.raises(ValueError, match="text_augment made ' ' of the caption"):
        epoch(module(folder, text_augment=blank))


def test_drop_words():
    drop = DropWords(0.3)
    rng = random.Random(0)
    words = ["a", "dog", "barks", "while", "rain", "falls", "on", "a", "roof"]
    lengths = []
    for _ in range(2000):
        kept = drop(" ".join(words), rng).split()
        rest = iter(words)
        assert all(word in rest for word in kept)  # in order
        lengths.append(len(kept))
    assert np.mean(lengths) == pytest.approx(0.7 * len(words), abs=0.1)
    assert {DropWords(0.99)("dog", rng) for _ in range(50)} == {"dog"}
    assert DropWords(0.0)("as it  was", rng) == "as it was"
    assert pickle.loads(pickle.dumps(drop)).share == 0.3
    with pytest.raises(ValueError, match="share must be from 0 to below 1, got 1"):
        DropWords(1)


def test_augmentations_by_name_and_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_texts.py").write_text("def whisper(text, rng):\n    return text.lower()\nNUMBER = 3\n")
    assert text_augmentation(None) is None
    assert text_augmentation(shout) is shout
    assert text_augmentation("drop_words").share == 0.1
    assert text_augmentation({"name": "drop_words", "share": 0.4}).share == 0.4
    assert text_augmentation("my_texts.whisper")("A DOG", random.Random(0)) == "a dog"
    with pytest.raises(ValueError, match="there is no text augmentation 'drop_word'; did you mean 'drop_words'"):
        text_augmentation("drop_word")
    with pytest.raises(ValueError, match="has no argument 'p'"):
        text_augmentation({"name": "drop_words", "p": 0.4})
    with pytest.raises(ValueError, match="there is no function 'NUMBER' in my_texts"):
        text_augmentation("my_texts.NUMBER")
    with pytest.raises(ValueError, match="is a function, so it takes no share"):
        text_augmentation({"name": "my_texts.whisper", "share": 1})
    with pytest.raises(ModuleNotFoundError):
        text_augmentation("no_such_module.function")


def test_a_field_that_no_clip_has_is_refused(folder):
    data = module(folder, caption_fields={"caption": 0.5, "tegs": 0.5})
    with pytest.raises(
        ValueError, match=r"caption_fields names 'tegs', but none of the \d+ clips .* did you mean 'tags'"
    ):
        data.setup("fit")
