"""The synthetic corpus: captions say what sounds, how long, how often and in what order; a seed gives one corpus."""

import json
import random
import shutil
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from slap.core.packed import Packed
from slap.datamodules import synthetic
from slap.datamodules.augment.scene_events import loudest_event
from slap.datamodules.augment.scenes import Scenes
from slap.datamodules.captions.grammar import ADJECTIVES, ADVERBS, NUMBERS, TIMES
from slap.datamodules.scenes.questions import QUESTIONS, RATE
from slap.datamodules.synthetic import SyntheticData, write_corpus
from slap.datamodules.synthetic.singles import LENGTHS, SINGLES, single
from slap.datamodules.synthetic.sounds import SOUNDS, synthesize
from slap.datamodules.synthetic.words import PROMPT, WORDS, training_captions

SIZES = {"train": 40, "val": 36, "test": 37}
LENGTH = {word: length for length, words in ADJECTIVES.items() for word in words if word}
LENGTH |= {words.strip(): length for length, words in ADVERBS.items() if words}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "corpus"
    write_corpus(folder, **SIZES)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A writer of small corpora: held-out clips are few, since they are most of the time."""
    folder = tmp_path_factory.mktemp("small") / "corpus"
    write_corpus(folder, 2, 36, 36)
    return folder


def rows(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- an independent reading of captions -------------------------------------------------------------------------------


def kinds_named(caption):
    """Return the sounds that a caption names, by their first nouns, in the order of the words."""
    places = {}
    for words in WORDS.values():
        names = {*words.nouns, *words.clauses, words.plural or "-"} | {n.split(" ", 1)[-1] for n in words.nouns}
        found = [caption.find(name) for name in names if name in caption]
        if found:
            places[words.text] = min(found)
    return sorted(places, key=places.__getitem__)


def length_said(caption):
    said = {length for word, length in LENGTH.items() if f" {word}" in f" {caption}"}
    return said.pop() if said else "plain"


def count_said(caption):
    words = {word: number for number, words in NUMBERS.items() for word in words if number > 1}
    words |= {word: number for number, word in TIMES.items() if number > 1}
    return max([number for word, number in words.items() if word in caption], default=1)


# -- captions ---------------------------------------------------------------------------------------------------------


def test_captions_of_single_sounds_name_the_sound_and_never_a_wrong_length():
    rng = random.Random(0)
    said = Counter()
    for kind, length in SINGLES * 20:
        prompt, *others = training_captions(kind, length, rng)
        assert prompt == PROMPT.format(label=WORDS[kind].text)
        for caption in others:
            assert kinds_named(caption) == [WORDS[kind].text]
            assert length_said(caption) in (length, "plain")
            said[length, length_said(caption)] += 1
    assert 0.6 < said["long", "long"] / (said["long", "long"] + said["long", "plain"]) < 0.95


def test_no_two_kinds_share_a_word_for_them():
    names = [name for words in WORDS.values() for name in (*words.nouns, *words.clauses, words.plural) if name]
    assert len(set(names)) == len(names)
    assert set(WORDS) == set(SOUNDS)


# -- sounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOUNDS)
def test_scenes_take_a_sound_as_one_event_of_its_length(kind):
    """What is counted is one burst; what lasts is not cut at its own pauses."""
    rng = random.Random(1)
    for length, (shortest, longest) in LENGTHS.items():
        for _ in range(4):
            samples = single(kind, length, rng)
            assert shortest - 1e-3 <= len(samples) / RATE <= longest + 1e-3
            event = loudest_event(samples, RATE, WORDS[kind])
            assert len(event.samples) > (0.95 if WORDS[kind].plural else 0.7) * len(samples)
            assert event.bursts == 1 or WORDS[kind].lasting
    assert bool(WORDS[kind].plural) != WORDS[kind].lasting


@pytest.mark.parametrize("kind", SOUNDS)
def test_a_sound_is_finite_within_bounds_and_different_each_time(kind):
    rng = np.random.default_rng(6)
    for seconds in (0.3, 1.234, 3.0):
        one, other = synthesize(kind, seconds, rng), synthesize(kind, seconds, rng)
        assert len(one) == len(other) == round(seconds * RATE)
        assert np.isfinite(one).all()
        assert 0.24 < np.abs(one).max() < 0.81
        assert np.abs(one - other).max() > 0.05
        assert abs(one[0]) < 0.01  # it fades in and out
        assert abs(one[-1]) < 0.01


def test_unknown_kind():
    with pytest.raises(ValueError, match="no sound of kind 'dog'; valid are: beep, rising"):
        synthesize("dog", 1.0, np.random.default_rng(0))


def test_kinds_differ_acoustically():
    """Train a nearest-centroid classifier on coarse log spectra of thirds of sounds, and test it on other draws."""

    def features(kind, seed):
        rng = np.random.default_rng((list(SOUNDS).index(kind), seed))
        sound = synthesize(kind, rng.uniform(0.5, 2.0), rng)
        thirds = np.array_split(sound / np.sqrt((sound**2).mean()), 3)
        frames = [np.abs(np.fft.rfft(third, 8192))[1:4097] ** 2 for third in thirds]
        edges = np.unique(np.geomspace(1, 4096, 24).astype(int))
        return np.log(np.concatenate([np.add.reduceat(frame, edges[:-1]) for frame in frames]) + 1.0)

    centroids = {kind: np.mean([features(kind, seed) for seed in range(15)], axis=0) for kind in SOUNDS}
    hits = 0
    for kind in SOUNDS:
        for seed in range(100, 110):
            heard = features(kind, seed)
            hits += kind == min(centroids, key=lambda other: np.abs(centroids[other] - heard).sum())
    assert hits / (10 * len(SOUNDS)) > 0.85  # chance: 0.08


# -- files ------------------------------------------------------------------------------------------------------------


def test_manifests_describe_their_files(corpus):
    for split, size in SIZES.items():
        found = rows(corpus, split)
        assert sum("labels" in row for row in found) == size
        for row in found:
            with wave.open(str(corpus / row["audio"])) as file:
                assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
                assert file.getnframes() == round(row["duration"] * RATE)
            assert 0.3 <= row["duration"] <= 10.0
            assert row["segments"]
            assert all(one["end"] <= row["duration"] + 1e-6 for one in row["segments"])
            if "labels" in row:
                assert [one["text"] for one in row["segments"]] == [row["labels"]["event"]]
    assert all("labels" in row and len(row["caption"]) in (1, 2, 3) for row in rows(corpus, "train"))


def test_held_out_parts_have_singles_scenes_and_questions_of_each_kind(corpus):
    for split in ("val", "test"):
        found, size = rows(corpus, split), SIZES[split]
        singles = [row for row in found if "labels" in row]
        assert Counter(row["labels"]["event"] for row in singles).keys() == {words.text for words in WORDS.values()}
        asked = Counter(task for row in found for task in row.get("choices", {}))
        assert asked.keys() == set(QUESTIONS)
        assert all(size <= count <= size + 2 for count in asked.values())
        scenes = [row for row in found if "labels" not in row and "choices" not in row]
        assert len(scenes) == size == len({row["caption"][0] for row in scenes})
        assert {2, 3} <= {len({one["text"] for one in row["segments"]}) for row in scenes}


def test_held_out_clips_do_not_leak(corpus):
    every = [row for split in SIZES for row in rows(corpus, split)]
    assert len({row["id"] for row in every}) == len(every)
    assert len({(corpus / row["audio"]).read_bytes() for row in every}) == len(every)


def test_held_out_captions_are_true_and_equal_where_the_meaning_is(corpus):
    for split in ("val", "test"):
        found = rows(corpus, split)
        for row in found:
            (caption,) = row["caption"]
            texts = [one["text"] for one in row["segments"]]
            assert sorted(kinds_named(caption)) == sorted(set(texts)), caption
            if len(set(texts)) == 1:
                assert count_said(caption) == len(texts)
                if len(texts) == 1:
                    lasts = row["segments"][0]["end"] - row["segments"][0]["start"]
                    assert length_said(caption) == ("short" if lasts <= 0.6 else "long" if lasts >= 2 else "plain")
            elif all(a["end"] <= b["start"] for a, b in zip(row["segments"], row["segments"][1:], strict=False)):
                heard = list(dict.fromkeys(texts))
                assert kinds_named(caption) == (heard[::-1] if " after " in caption else heard), caption
        alone = {}
        for row in found:
            if len(row["segments"]) == 1:
                one = row["segments"][0]
                alone.setdefault((one["text"], length_said(row["caption"][0])), set()).add(row["caption"][0])
        assert all(len(captions) == 1 for captions in alone.values())


def test_the_same_seed_gives_the_same_files(corpus, tmp_path):
    write_corpus(tmp_path / "again", **SIZES)
    assert contents(tmp_path / "again") == contents(corpus)
    write_corpus(tmp_path / "again", 40, 36, 36, seed=1)
    for name in ("train/00000.wav", "test/00000.wav", "test/order-0000.wav"):
        assert contents(tmp_path / "again")[name] != contents(corpus)[name]


def test_more_training_clips_leave_the_others_as_they_were(corpus, tmp_path):
    write_corpus(tmp_path / "more", **{**SIZES, "train": 44})
    more, known = contents(tmp_path / "more"), contents(corpus)
    assert {name for name in known if more[name] != known[name]} == {"train.jsonl", "corpus.json"}


def test_a_complete_corpus_is_not_written_again(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "corpus")
    (folder / "train/00000.wav").write_bytes(b"mine")
    write_corpus(folder, 2, 36, 36)
    assert (folder / "train/00000.wav").read_bytes() == b"mine"


def test_changed_arguments_replace_the_corpus(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "corpus")
    write_corpus(folder, 1, 36, 36)
    assert len(rows(folder, "train")) == 1
    assert not (folder / "train/00001.wav").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_an_interrupted_write_is_not_taken_for_complete(small, tmp_path, monkeypatch):
    folder = tmp_path / "corpus"

    def interrupted(path, clips):
        if Path(path).stem == "test":
            raise KeyboardInterrupt
        return write(path, clips)

    write = synthetic.write_manifest
    monkeypatch.setattr(synthetic, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(folder, 2, 36, 36)
    assert not folder.exists()
    monkeypatch.undo()
    write_corpus(folder, 2, 36, 36)
    assert contents(folder) == contents(small)


def test_other_peoples_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds files but no corpus\.json"):
        write_corpus(tmp_path, 2, 36, 36)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="train=0"):
        write_corpus(tmp_path / "new", 0, 36, 36)
    with pytest.raises(ValueError, match="at least 36 clips"):
        write_corpus(tmp_path / "new", 1, 35, 36)
    assert not (tmp_path / "new").exists()


def test_the_data_module_writes_and_reads_it(tmp_path):
    data = SyntheticData(tmp_path / "corpus", train=60, val=36, test=36, max_duration=60.0, num_buckets=1)
    data.prepare_data()
    data.connect(RATE, lambda captions: Packed.pack([torch.arange(len(text)) for text in captions]))
    data.setup("fit")
    found = rows(tmp_path / "corpus", "train")
    captions = list(data.captions())
    assert {caption for row in found for caption in row["caption"]} <= set(captions)
    words = {word for caption in captions for word in caption.replace(",", "").split()}
    assert {"then", "followed", "after", "before", "together", "while", "twice", "three", "times", "loud"} <= words
    assert data.prompts == {"event": PROMPT}
    batches = list(data.train_dataloader())
    scenes = [(text, names) for batch in batches for text, names in zip(batch.captions, batch.segments, strict=True)]
    twins = [batch.ids[i] for batch in batches for i, name in enumerate(batch.ids) if name.endswith(".1")]
    assert twins
    assert max(len({one.text for one in names}) for _, names in scenes) >= 2
    for text, names in scenes:
        assert sorted(kinds_named(text)) == sorted({one.text for one in names}), text


def test_scenes_know_the_words_whatever_else_is_asked_of_them(tmp_path):
    data = SyntheticData(tmp_path, augment={"gain": None, "scenes": {"probability": 0.9}})
    scenes = data.transforms[1]
    assert isinstance(scenes, Scenes)
    assert scenes.probability == 0.9
    assert scenes.words["event: a bell"] == WORDS["bell"]
    assert SyntheticData(tmp_path, augment={}).transforms == ()
