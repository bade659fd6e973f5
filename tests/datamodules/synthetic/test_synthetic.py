"""The synthetic corpus: captions name the sounds in their order, and the same seed gives the same corpus."""

import json
import re
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from slap.core.packed import Packed
from slap.datamodules import synthetic
from slap.datamodules.captions.grammar import ADJECTIVES, ADVERBS
from slap.datamodules.synthetic import SyntheticData, write_corpus
from slap.datamodules.synthetic.captions import CLAUSES, NOUNS, SceneEvent, describe
from slap.datamodules.synthetic.scenes import (
    LENGTHS,
    LONGEST,
    PAIRS,
    held_out_scenes,
    labels,
    meaning,
    random_scene,
    render,
)
from slap.datamodules.synthetic.sounds import SAMPLE_RATE, SOUNDS, synthesize

SIZES = {"train": 8, "val": 36, "test": 44}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "corpus"
    write_corpus(folder, **SIZES)
    return folder


def rows(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- an independent reading of captions -------------------------------------------------------------------------------


def read_event(text):
    """Parse a noun phrase or a short sentence into (kind, length)."""
    for kind, sentence in CLAUSES.items():
        for length, adverb in ADVERBS.items():
            if text == sentence + adverb:
                return kind, length
    words = text.split()
    assert words[0] == ("an" if words[1][0] in "aeiou" else "a"), text
    length = next((name for name, options in ADJECTIVES.items() if words[1] in options), "plain")
    name = " ".join(words[1:] if length == "plain" else words[2:])
    (kind,) = [kind for kind, names in NOUNS.items() if name in names]
    return kind, length


def read(caption):
    """Parse a caption into {(place in the sequence, (kind, length))}."""
    text = caption.removeprefix("the sound of ")
    alone = re.fullmatch(r"a (\w+) sound( of (.+))?", text)
    if alone:
        (length,) = [name for name, options in ADJECTIVES.items() if alone[1] in options]
        return {(0, (read_event(alone[3])[0] if alone[3] else "", length))}
    if " after " in text:
        parts = text.split(" after ")[::-1]
    else:
        parts = re.split(r", then | followed by | before | and finally ", text.removeprefix("first "))
    return {
        (i, read_event(e)) for i, part in enumerate(parts) for e in re.split(" together with | over | while ", part)
    }


def said(scene):
    return {(i, (event.kind, event.length)) for i, event in meaning(scene)}


# -- captions ---------------------------------------------------------------------------------------------------------


def test_captions_say_which_sounds_how_long_and_in_what_order():
    rng = np.random.default_rng(0)
    for _ in range(600):
        scene = random_scene(rng)
        caption = describe(scene, rng)
        assert read(caption) == said(scene), caption


def test_words_of_length_may_be_left_out_but_are_never_wrong():
    rng = np.random.default_rng(1)
    silent = spoken = vague = 0
    for _ in range(500):
        scene = random_scene(rng)
        heard, true = sorted(read(describe(scene, rng, mention=0.5))), sorted(said(scene))
        if heard[0][1][0] == "":  # "a long sound": nothing but its length is said
            assert [heard[0][1][1]] == [length for _, (_, length) in true]
            vague += 1
            continue
        assert [(i, kind) for i, (kind, _) in heard] == [(i, kind) for i, (kind, _) in true]
        for (_, (_, length)), (_, (_, truth)) in zip(heard, true, strict=True):
            assert length in (truth, "plain")
            spoken += truth != "plain" and length == truth
            silent += truth != "plain" and length == "plain"
    assert 0.4 < silent / (silent + spoken) < 0.6
    assert vague > 3


def test_one_order_of_events_has_captions_with_the_words_either_way_round():
    scene = (SceneEvent("bell"),), (SceneEvent("siren"),)
    captions = {describe(scene, np.random.default_rng(i)) for i in range(200)}
    assert {"a bell, then a siren", "a siren after a bell"} <= captions
    assert not {"a siren, then a bell", "a bell after a siren"} & captions
    assert len(captions) > 20


def test_no_two_kinds_share_a_word_for_them():
    names = [name for options in NOUNS.values() for name in options] + list(CLAUSES.values())
    assert len(set(names)) == len(names)
    assert set(NOUNS) == set(CLAUSES) == set(SOUNDS)


# -- scenes -----------------------------------------------------------------------------------------------------------


def test_random_scenes_cover_every_kind_length_number_of_events_and_overlap():
    rng = np.random.default_rng(2)
    scenes = [random_scene(rng) for _ in range(500)]
    events = [event for scene in scenes for step in scene for event in step]
    assert {(event.kind, event.length) for event in events} == {(kind, length) for kind in SOUNDS for length in LENGTHS}
    assert Counter(sum(len(step) for step in scene) for scene in scenes).keys() == {1, 2, 3, 4}
    assert {len(step) for scene in scenes for step in scene} == {1, 2}
    kinds = [[event.kind for step in scene for event in step] for scene in scenes]
    assert all(len(set(names)) == len(names) for names in kinds)
    orders = {tuple(names) for scene, names in zip(scenes, kinds, strict=True) if len(scene) == len(names) == 2}
    assert any(order[::-1] in orders for order in orders)


def test_held_out_scenes_are_all_different_and_hard_pairs_come_in_both_orders():
    scenes = held_out_scenes(300, np.random.default_rng(3))
    meanings = {meaning(scene) for scene in scenes}
    assert len(scenes) == len(meanings) == 300
    singles = [scene for scene in scenes if "event" in labels(scene)]
    assert len(singles) == len(NOUNS) * len(LENGTHS)
    ordered = [scene for scene in scenes if "order" in labels(scene)]
    assert len(ordered) == 2 * len(PAIRS) * len(LENGTHS) ** 2  # all there are
    for first, second in ordered:
        assert meaning((second, first)) in meanings
    assert len({labels(scene)["order"] for scene in ordered}) == 2 * len(PAIRS)


def test_a_small_held_out_split_keeps_pairs_whole():
    for count in (36, 37, 44, 61):
        scenes = held_out_scenes(count, np.random.default_rng(count))
        assert len(scenes) == count
        assert {labels(scene).get("event") for scene in scenes} >= {f"a {names[0]}" for names in NOUNS.values()}
    meanings = {meaning(scene) for scene in held_out_scenes(44, np.random.default_rng(0))}
    assert sum(meaning(scene[::-1]) in meanings for scene in held_out_scenes(44, np.random.default_rng(0))[36:40]) == 4
    with pytest.raises(ValueError, match="at least 36 clips"):
        held_out_scenes(35, np.random.default_rng(0))


def test_labels():
    bell, beep, siren = SceneEvent("bell", "long"), SceneEvent("beep", "short"), SceneEvent("siren")
    assert labels(((bell,),)) == {"event": "a bell", "duration": "long"}
    assert labels(((siren,),)) == {"event": "a siren"}
    assert labels(((bell,), (beep,))) == {"order": "a bell, then a beep"}
    assert labels(((beep,), (bell,))) == {"order": "a beep, then a bell"}
    assert labels(((beep, bell),)) == {}  # at once: there is no order
    assert labels(((bell,), (siren,))) == {}  # no pair that is asked for
    assert labels(((beep,), (bell,), (siren,))) == {}


# -- sounds -----------------------------------------------------------------------------------------------------------


def test_scenes_last_as_long_as_they_say():
    rng = np.random.default_rng(4)
    for length, (shortest, longest) in LENGTHS.items():
        seconds = [len(render(((SceneEvent("beep", length),),), rng)) / SAMPLE_RATE for _ in range(20)]
        assert shortest - 1e-4 <= min(seconds) < max(seconds) <= longest + 1e-4
    at_once = render(((SceneEvent("beep", "long"), SceneEvent("hiss", "short")),), rng)
    assert LENGTHS["long"][0] - 1e-4 <= len(at_once) / SAMPLE_RATE <= LENGTHS["long"][1] + 1e-4
    four = tuple((SceneEvent(kind, "long"),) for kind in ("beep", "hiss", "bell", "buzz"))
    seconds = [len(render(four, rng)) / SAMPLE_RATE for _ in range(20)]
    assert 4 * LENGTHS["long"][0] < min(seconds) < max(seconds) <= LONGEST


def test_sounds_come_in_the_order_of_their_events():
    # A hiss has its energy above 2 kHz, a rumble below 220 Hz.
    for first, second in (("hiss", "rumble"), ("rumble", "hiss")):
        sound = render(((SceneEvent(first),), (SceneEvent(second),)), np.random.default_rng(5))
        halves = {"first": sound[: SAMPLE_RATE // 2], "second": sound[-SAMPLE_RATE // 2 :]}
        high = {name: high_share(half) > 0.5 for name, half in halves.items()}
        assert high == {"first": first == "hiss", "second": second == "hiss"}
    at_once = render(((SceneEvent("hiss"), SceneEvent("rumble")),), np.random.default_rng(5))
    assert 0.02 < high_share(at_once) < 0.98


def high_share(sound):
    power = np.abs(np.fft.rfft(sound)) ** 2
    return power[np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE) > 1000].sum() / power.sum()


@pytest.mark.parametrize("kind", SOUNDS)
def test_a_sound_is_finite_within_bounds_and_different_each_time(kind):
    rng = np.random.default_rng(6)
    for seconds in (0.3, 1.234, 3.0):
        one, other = synthesize(kind, seconds, rng), synthesize(kind, seconds, rng)
        assert len(one) == len(other) == round(seconds * SAMPLE_RATE)
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
        assert len(found) == size
        for row in found:
            with wave.open(str(corpus / row["audio"])) as file:
                assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, SAMPLE_RATE)
                assert file.getnframes() == round(row["duration"] * SAMPLE_RATE)
            assert 0.3 <= row["duration"] <= LONGEST
            assert len(row["caption"]) in ((1, 2, 3) if split == "train" else (1,))
    assert any(len(row["caption"]) == 3 for row in rows(corpus, "train"))


def test_held_out_clips_do_not_leak(corpus):
    every = [row for split in SIZES for row in rows(corpus, split)]
    assert len({row["id"] for row in every}) == len(every) == sum(SIZES.values())
    assert len({(corpus / row["audio"]).read_bytes() for row in every}) == len(every)


def test_held_out_captions_fit_one_clip_only_and_labels_fit_them(corpus):
    for split in ("val", "test"):
        found = rows(corpus, split)
        assert len({row["caption"][0] for row in found}) == len(found)
        for row in found:
            heard = sorted(read(row["caption"][0]))
            names = [f"a {NOUNS[kind][0]}" for _, (kind, _) in heard]
            tasks = row.get("labels", {})
            if "event" in tasks:
                assert [tasks["event"]] == names
                assert tasks.get("duration", "plain") == heard[0][1][1]
            if "order" in tasks:
                assert tasks["order"] == ", then ".join(names)


def test_the_same_seed_gives_the_same_files(corpus, tmp_path):
    write_corpus(tmp_path / "again", **SIZES)
    assert contents(tmp_path / "again") == contents(corpus)
    write_corpus(tmp_path / "other", **SIZES, seed=1)
    assert contents(tmp_path / "other")["train/00000.wav"] != contents(corpus)["train/00000.wav"]


def test_more_training_clips_leave_the_others_as_they_were(corpus, tmp_path):
    write_corpus(tmp_path / "more", **{**SIZES, "train": 10})
    more, known = contents(tmp_path / "more"), contents(corpus)
    assert {name for name in known if more[name] != known[name]} == {"train.jsonl", "corpus.json"}


def test_a_complete_corpus_is_not_written_again(tmp_path):
    folder = tmp_path / "corpus"
    write_corpus(folder, 2, 36, 36)
    (folder / "train/00000.wav").write_bytes(b"mine")
    write_corpus(folder, 2, 36, 36)
    assert (folder / "train/00000.wav").read_bytes() == b"mine"


def test_changed_arguments_replace_the_corpus(tmp_path):
    folder = tmp_path / "corpus"
    write_corpus(folder, 3, 36, 36)
    write_corpus(folder, 2, 36, 36)
    assert len(rows(folder, "train")) == 2
    assert not (folder / "train/00002.wav").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_an_interrupted_write_is_not_taken_for_complete(tmp_path, monkeypatch):
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
    write_corpus(tmp_path / "whole", 2, 36, 36)
    assert contents(folder) == contents(tmp_path / "whole")


def test_other_peoples_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds files but no corpus\.json"):
        write_corpus(tmp_path, 2, 36, 36)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="train=0"):
        write_corpus(tmp_path / "new", 0, 36, 36)


def test_the_data_module_writes_and_reads_it(tmp_path):
    data = SyntheticData(tmp_path / "corpus", train=6, val=36, test=36, max_duration=30.0)
    data.prepare_data()
    data.connect(SAMPLE_RATE, lambda captions: Packed.pack([torch.arange(len(text)) for text in captions]))
    data.setup("fit")
    captions = {caption for row in rows(tmp_path / "corpus", "train") for caption in row["caption"]}
    assert set(data.captions()) == captions
    assert data.prompts["order"] == "the sound of {label}"
    batches = list(data.train_dataloader())
    assert sorted(name for batch in batches for name in batch.ids) == [f"train-{i:05d}" for i in range(6)]
