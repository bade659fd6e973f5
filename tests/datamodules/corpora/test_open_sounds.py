"""Six corpora at once: parts without a shared source, captions of classes, questions without shortcuts."""

import csv
import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.corpora.open_sounds import CORPORA, present
from slap.datamodules.corpora.open_sounds_data import data_module, write_manifests
from slap.datamodules.corpora.open_sounds_words import (
    PROMPTS,
    SOUNDS,
    emotion_captions,
    scene_words,
    sound_captions,
    word_captions,
)
from slap.datamodules.corpora.ravdess import EMOTIONS
from slap.datamodules.corpora.urbansound8k import CLASSES
from slap.datamodules.overlap.search import search
from slap.datamodules.scenes.questions import QUESTIONS
from slap.datamodules.scenes.write import HeldOut, write_scenes
from slap.recipes import open_sounds

SHARED = Path("../shared/data")
RATE = 16000


def sha1(speaker: str) -> int:
    return int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 5


SPEAKERS = {rest: next(f"{n:08x}" for n in range(99) if sha1(f"{n:08x}") == rest) for rest in range(5)}


def sound(path: Path, seconds: float = 2.0, event: float = 0.4) -> None:
    """Write a tone in silence, or one that fills its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.zeros(round(seconds * RATE))
    first, size = round((seconds - event) / 2 * RATE), round(event * RATE)
    pitch = 300 + 2000 * (int(hashlib.sha1(path.name.encode()).hexdigest(), 16) % 97) / 97
    samples[first : first + size] = 0.3 * np.sin(2 * np.pi * pitch * np.arange(size) / RATE)
    soundfile.write(path, samples, RATE)


def table(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All six corpora, of which two are in the sub-folder `corpora`; ESC-50 as WAV, UrbanSound8K as Vorbis."""
    tmp_path = tmp_path_factory.mktemp("corpora")
    rows = []
    for fold in (1, 2, 3, 4, 5):
        for target, (name, lasts) in enumerate([("dog", 0.3), ("rain", 5.0), ("car_horn", 0.5)]):
            source = f"{fold}{target}"
            file = f"{fold}-{source}-A-{target}.wav"
            sound(tmp_path / "esc50" / "audio" / file, 5.0, lasts)
            rows.append({"filename": file, "fold": fold, "target": target, "category": name, "esc10": "False"})
            rows[-1] |= {"src_file": source, "take": "A"}
    table(tmp_path / "esc50" / "meta" / "esc50.csv", rows)
    rows = []
    for fold, source, name in [(1, "900", "siren"), (1, "40", "siren"), (2, "30", "dog_bark"), (3, "902", "siren")]:
        file = f"{source}-8-0-0.wav"
        sound(tmp_path / "corpora" / "urbansound8k" / "audio" / f"fold{fold}" / file.replace(".wav", ".ogg"), 4.0, 4.0)
        rows.append({"slice_file_name": file, "fsID": source, "start": 0, "end": 4, "salience": 1, "fold": fold})
        rows[-1] |= {"classID": 8, "class": name}
    table(tmp_path / "corpora" / "urbansound8k" / "metadata" / "UrbanSound8K.csv", rows)
    for fold, source in [(1, "41"), (1, "7"), (3, "8"), (4, "9")]:  # 41 is held out in ESC-50
        sound(tmp_path / "esc10" / "002 - Rain" / f"{fold}-{source}-A.ogg", 4.0, 4.0)
    for speaker in SPEAKERS.values():
        for word in ("yes", "bird", "seven"):
            sound(tmp_path / "corpora" / "speechcommands" / word / f"{speaker}_nohash_0.ogg", 1.0, 0.4)
    sound(tmp_path / "corpora" / "speechcommands" / "_background_noise_" / "x_nohash_0.wav")
    for actor in (1, 2, 13, 16, 20):
        sound(tmp_path / "ravdess" / f"Actor_{actor:02d}" / f"03-01-05-02-01-01-{actor:02d}.wav", 3.0, 1.4)
    for speaker in ("ann", "bob", "eve"):
        sound(tmp_path / "fsdd" / "recordings" / f"7_{speaker}_0.wav", 0.5, 0.4)
    return tmp_path


def ids(path: Path) -> set[str]:
    return {cut.id for cut in read_manifest(path)}


def test_folds_speakers_and_actors_are_held_out(root: Path, tmp_path: Path) -> None:
    final = write_manifests(root, tmp_path / "m", "final", "bob")
    develop = write_manifests(root, tmp_path / "m", "develop", "bob")
    held_out, tuned = ids(final.evaluate), ids(develop.evaluate)
    assert {name for name in held_out if name.startswith("esc50")} == {f"esc50/4-4{n}-A-{n}" for n in range(3)}
    assert {name for name in tuned if name.startswith("esc50")} == {f"esc50/3-3{n}-A-{n}" for n in range(3)}
    assert {name for name in held_out | tuned if name.startswith("urban")} == {
        "urbansound8k/902-8-0-0",
        "urbansound8k/30-8-0-0",
    }
    for part, name in ((held_out, SPEAKERS[0]), (tuned, SPEAKERS[1])):
        words = {one for one in part if one.startswith("speechcommands")}
        assert words == {f"speechcommands/{word}/{name}_nohash_0" for word in ("yes", "bird", "seven")}
    assert {name for name in held_out if "fsdd" in name or "ravdess" in name} == {
        "fsdd/7_bob_0",
        "ravdess/03-01-05-02-01-01-16",
    }
    assert {name for name in tuned if "fsdd" in name or "ravdess" in name} == {
        "fsdd/7_eve_0",
        "ravdess/03-01-05-02-01-01-13",
    }
    trained = set().union(*map(ids, develop.train.values()))
    assert trained.isdisjoint(held_out | tuned)
    assert tuned - set().union(*map(ids, final.train.values())) == set()


def test_what_shares_a_source_with_what_is_evaluated_is_not_trained_on(root: Path, tmp_path: Path) -> None:
    """Freesound recording 40 is in UrbanSound8K's fold 1 and ESC-50's fold 4, 41 in ESC-10's fold 1 too."""
    final = write_manifests(root, tmp_path / "m", "final", "bob")
    assert "urbansound8k/40-8-0-0" not in ids(final.train["urbansound8k"])
    assert "urbansound8k/900-8-0-0" in ids(final.train["urbansound8k"])
    assert ids(final.train["esc10"]) == {"esc10/1-7-A", "esc10/3-8-A"}
    for path in final.train.values():
        assert not search(path, [final.evaluate], {"id", "origin"}).pairs


def test_clips_carry_labels_by_task_and_prompts_are_captions_of_theirs(root: Path, tmp_path: Path) -> None:
    final = write_manifests(root, tmp_path / "m", "final", "bob")
    assert final.tasks == sorted(PROMPTS)
    for path in (*final.train.values(), final.evaluate):
        for cut in read_manifest(path):
            captions = [caption.text for caption in cut.supervisions]
            assert len(captions) == len(set(captions))
            for task, label in cut.custom["labels"].items():
                assert PROMPTS[task].format(label=label) in captions
    words = {name: cut.custom["labels"] for cut in read_manifest(final.evaluate) for name in [cut.id.split("/")[1]]}
    assert words["yes"] == {"speechcommands": "yes", "words10": "yes"}
    assert words["bird"] == {"speechcommands": "bird"}


def test_names_of_speakers_are_captions_of_training_clips_alone(root: Path, tmp_path: Path) -> None:
    final = write_manifests(root, tmp_path / "m", "final", "bob")
    texts = {caption.text for cut in read_manifest(final.train["fsdd"]) for caption in cut.supervisions}
    assert "ann says seven" in texts
    assert {len(cut.supervisions) for cut in read_manifest(final.evaluate)} == {1}


def test_any_of_the_corpora_will_do_and_the_others_are_named(root: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "corpora").symlink_to(root / "corpora")
    assert list(present(tmp_path)) == ["urbansound8k", "speechcommands"]
    assert "going on without esc50, ravdess, esc10, fsdd" in caplog.text
    assert write_manifests(tmp_path, tmp_path / "m").tasks == ["speechcommands", "urbansound8k", "words10"]
    with pytest.raises(FileNotFoundError, match=f"none of the corpora {', '.join(CORPORA)} in "):
        present(tmp_path / "m")


def test_some_of_the_corpora_may_be_named(root: Path) -> None:
    assert list(present(root, "bob", ["speechcommands", "fsdd"])) == ["speechcommands", "fsdd"]
    with pytest.raises(ValueError, match="open_sounds has no corpus 'fsd'; did you mean 'fsdd'"):
        present(root, "bob", ["fsd"])


def test_classes_that_are_the_same_sound_share_their_captions() -> None:
    for one, other in [("dog", "dog bark"), ("engine", "engine idling"), ("crying baby", "baby cry")]:
        assert sound_captions(one) == sound_captions(other)
    assert {"the digit seven", "the word seven"} <= {text for text, _ in word_captions("seven")}
    assert {name.replace("_", " ") for name in CLASSES} <= set(SOUNDS)


def test_captions_of_different_classes_differ() -> None:
    classes = {frozenset(sound_captions(name)) for name in SOUNDS}
    classes |= {frozenset(word_captions(word)) for word in ("dog", "cat", "bird", "yes", "seven")}
    counts = Counter(text for captions in classes for text, _ in captions)
    assert {text for text, count in counts.items() if count > 1} == set()


def test_captions_of_emotions_say_who_and_how() -> None:
    labels = {"ravdess": "angry", "ravdess_gender": "female", "ravdess_intensity": "strong"}
    captions = {text for text, _ in emotion_captions(labels | {"ravdess_statement": "Kids are talking by the door"})}
    assert {"a woman speaks very angrily", "an angry voice", "somebody speaks angrily"} <= captions
    assert "a woman says angrily: kids are talking by the door" in captions
    for emotion in EMOTIONS:
        weak = {**labels, "ravdess": emotion, "ravdess_intensity": "normal", "ravdess_statement": "x"}
        assert not any("very" in text for text, _ in emotion_captions(weak))


@pytest.fixture(scope="module")
def scenes(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """Scenes with 20 questions of each kind."""
    tmp_path = tmp_path_factory.mktemp("scenes")
    final = write_manifests(root, tmp_path / "m", "final", "bob")
    path = write_scenes(final.evaluate, tmp_path / "m", scene_words(), least=20)
    return path, [json.loads(line) for line in path.read_text().splitlines()]


def test_questions_are_balanced_and_neither_words_nor_duration_answer_them(scenes) -> None:
    _, records = scenes
    for task in QUESTIONS:
        asked = [record for record in records if task in record["choices"]]
        assert len(asked) >= 20
        groups: dict[tuple, list[dict]] = {}
        for record in asked:
            groups.setdefault((record["duration"], *sorted(record["choices"][task])), []).append(record)
        for key, group in groups.items():
            # Each candidate is right as often as any other, in scenes of one duration and of the same clips.
            right = Counter(record["choices"][task][0] for record in group)
            assert set(right) == set(key[1:])
            assert len(set(right.values())) == 1
            assert len({record["origin"]["scene"] for record in group}) == 1
            assert len({frozenset(segment["text"] for segment in record["segments"]) for record in group}) == 1


def test_the_right_candidate_is_what_the_scene_holds(scenes) -> None:
    path, records = scenes
    numbers = {"once": 1, "single": 1, "twice": 2, "two": 2, "three": 3}
    for record in records:
        ((task, (right, *wrong)),) = record["choices"].items()
        segments = record["segments"]
        assert record["caption"] == [right]
        assert right not in wrong
        if task == "count":
            assert [numbers[word] for word in right.split() if word in numbers] == [len(segments)]
        if task == "duration":
            (one,) = segments
            lasts = one["end"] - one["start"]
            assert lasts <= 0.6 if any(word in right for word in ("short", "brief")) else lasts >= 2.0
        if task == "overlap":
            together = segments[1]["start"] < segments[0]["end"]
            assert together == any(word in right for word in ("over", "together", "while", "same time"))
        if task == "order":
            first = nouns(right)
            assert [segment["text"] for segment in segments] == (first[::-1] if " after " in right else first)
        samples, rate = soundfile.read(path.parent / record["audio"])
        assert len(samples) == round(record["duration"] * rate)
        inside = np.zeros(len(samples), dtype=bool)
        for one in segments:
            inside[round(one["start"] * rate) : round(one["end"] * rate)] = True
            assert np.square(samples[round(one["start"] * rate) : round(one["end"] * rate)]).mean() > 1e-6
        assert not samples[~inside].any()


def nouns(caption: str) -> list[str]:
    """Return the first noun of each sound of a caption, in the order of their words."""
    found = {}
    for words in scene_words().values():
        places = [caption.find(text) for text in (*words.nouns, *words.clauses) if text in caption]
        if places:
            found[words.text] = min(places)
    return sorted(found, key=found.__getitem__)


def test_scenes_are_made_once_and_the_same_again(scenes, tmp_path: Path) -> None:
    path, records = scenes
    manifest = path.parent / "final" / "evaluate.jsonl"
    before = path.stat().st_mtime_ns
    assert write_scenes(manifest, path.parent, scene_words(), least=20) == path
    assert path.stat().st_mtime_ns == before
    again = write_scenes(manifest, tmp_path / "again", scene_words(), least=20)
    assert [json.loads(line) for line in again.read_text().splitlines()] == records
    for record in records:
        assert (path.parent / record["audio"]).read_bytes() == (again.parent / record["audio"]).read_bytes()
    assert write_scenes(manifest, tmp_path / "again", scene_words(), least=4, seed=1).name != path.name


def test_scenes_need_clips_that_suit_them(root: Path, tmp_path: Path) -> None:
    (tmp_path / "fsdd").symlink_to(root / "fsdd")
    final = write_manifests(tmp_path, tmp_path / "m", "final", "bob")
    with pytest.raises(ValueError, match="do not suffice for 4 questions of order; got 0"):
        write_scenes(final.evaluate, tmp_path / "m", scene_words(), least=4)


def test_scenes_leave_out_bad_and_silent_clips(tmp_path: Path, caplog) -> None:
    clips = []
    for number, (name, event) in enumerate([("dog", 0.3), ("dog", 0.0), ("rain", 4.0), ("siren", 4.0), ("rain", 4.0)]):
        sound(tmp_path / f"{number}.wav", 4.0, event)
        clips.append(Clip(str(number), tmp_path / f"{number}.wav", [name], {"esc50": name}))
    manifest = write_manifest(tmp_path / "m.jsonl", clips)
    audio = (tmp_path / "4.wav").read_bytes()
    sounds = HeldOut(read_manifest(manifest), scene_words())
    (tmp_path / "4.wav").write_bytes(audio[:44] + bytes([255]) * 7)
    assert {sounds.draw(random.Random(seed))[1] for seed in range(60)} == {"0", "2", "3"}
    assert "clip '1' is silent" in caplog.text
    assert "left out of the scenes: clip '4'" in caplog.text
    with pytest.raises(ValueError, match="with labels whose words are known; there is none"):
        HeldOut(read_manifest(manifest), {}).draw(random.Random(0))


def test_the_data_module_validates_only_to_develop(root: Path, tmp_path: Path) -> None:
    final = data_module(str(root), str(tmp_path / "m"), held_out_speaker="bob", questions=2)
    assert (len(final.manifests["val"]), len(final.manifests["test"])) == (0, 2)
    develop = data_module(str(root), str(tmp_path / "m"), "develop", "bob", questions=0)
    assert (len(develop.manifests["val"]), len(develop.manifests["test"])) == (1, 1)
    with pytest.raises(ValueError, match="part is 'develop' or 'final', got 'test'"):
        write_manifests(root, tmp_path / "m", "test")
    with pytest.raises(ValueError, match="there is no speaker 'theo'"):
        write_manifests(root, tmp_path / "m")


def test_the_recipe_trains_on_what_is_there_and_learns_the_words_of_scenes(root: Path, tmp_path: Path) -> None:
    """The words for order stand in no manifest, but in the scenes; a tokenizer that had not seen them spelled them."""
    options = {"root": str(root), "manifests": str(tmp_path / "manifests"), "part": "develop"}
    options |= {"questions": 0, "held_out_speaker": "eve"}
    data = open_sounds.data(**options, num_workers=0, max_duration=40.0)
    captions = list(data.captions())
    assert any(" followed by " in caption for caption in captions)
    assert any(caption.startswith("first ") and ", then " in caption for caption in captions)
    model = open_sounds.model(warmup_steps=1)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0, "logger": False}
    training = open_sounds.trainer(out=str(tmp_path / "run"), max_steps=2, val_check_interval=2, **quiet)
    training.fit(model, data)
    assert training.global_step == 2
    assert len(model.text.tokenize(["a dog, then rain"]).values) < 12


@pytest.mark.skipif(not (SHARED / "corpora").is_dir(), reason="needs ../shared/data/corpora")
@pytest.mark.parametrize(
    ("part", "sizes"), [("final", (2004, 7784)), pytest.param("develop", (2457, 5296), marks=pytest.mark.slow)]
)
def test_parts_of_the_real_corpora_share_no_source(tmp_path: Path, part: str, sizes: tuple[int, int]) -> None:
    written = write_manifests(SHARED, tmp_path, part)
    assert sorted(written.train) == sorted(CORPORA)
    train = [json.loads(line) for path in written.train.values() for line in path.read_text().splitlines()]
    evaluate = [json.loads(line) for line in written.evaluate.read_text().splitlines()]
    assert (len(evaluate), len(train)) == sizes
    known, held_out = ({one for record in part for one in sources(record)} for part in (train, evaluate))
    assert known.isdisjoint(held_out)


def sources(record: dict) -> set[tuple[str, str]]:
    """Return id and origins of a clip; each has one origin at least."""
    return {("id", record["id"]), *record["origin"].items()}
