"""Scenes: captions that say what is heard, segments where it is heard, and no more audio than the batch had."""

import pickle
import re
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from slap.datamodules.audio.load import DecodedSource, load
from slap.datamodules.augment import augmentations
from slap.datamodules.augment.basic import Mix, Only
from slap.datamodules.augment.scene_events import loudest_event, whole_event
from slap.datamodules.augment.scene_plan import countable
from slap.datamodules.augment.scenes import Scenes
from slap.datamodules.captions.grammar import Words

RATE = 8000

WORDS = {
    "dog": Words(("a dog bark",), ("a dog barks",), "dog barks"),
    "bell": Words(("a bell",), ("a bell rings",), "bells"),
    "rain": Words(("rain",), ("rain falls",), lasting=True),
    "siren": Words(("a siren",), ("a siren wails",), lasting=True),
    "yes": Words(("the word yes",), ("somebody says yes",), whole=True),
}
PITCH = {"dog": 400, "bell": 800, "rain": 1300, "siren": 2000, "yes": 2900}
"""Hz: each kind is a tone of its own, so that the audio of a scene says which sound is where."""


def clip(kind: str, number: int, event: float, whole: float, level: float = 0.2, start: float = 0.3) -> MonoCut:
    """Return a clip with one tone in silence; lengths in seconds."""
    samples = np.zeros(round(whole * RATE), dtype=np.float32)
    first, size = round(start * RATE), round(event * RATE)
    samples[first : first + size] = level * np.sin(2 * np.pi * PITCH[kind] / RATE * np.arange(size))
    name = f"{kind}/{number}"
    supervision = SupervisionSegment(name, name, 0.0, whole, 0, f"{WORDS[kind].clauses[0]}.")
    custom = {"labels": {"sound": kind}, "draw": f"0 0 {number}", "source": 3}
    source = DecodedSource("memory", [0], samples[None], rate=RATE)
    recording = Recording(name, [source], RATE, len(samples), len(samples) / RATE)
    return MonoCut(name, 0.0, recording.duration, 0, [supervision], None, recording, custom)


def batch(number: int) -> CutSet:
    """Return ten clips of all kinds, others for other numbers."""
    rng = np.random.default_rng(number)
    sizes = {"dog": (0.2, 0.5), "bell": (0.3, 1.2), "rain": (2.5, 4.5), "siren": (2.5, 4.5), "yes": (0.3, 0.6)}
    kinds = rng.permutation([*PITCH, *PITCH]).tolist()
    clips = []
    for place, kind in enumerate(kinds):
        event = rng.uniform(*sizes[kind])
        clips.append(clip(kind, 10 * number + place, event, event + rng.uniform(0.4, 1.5), rng.uniform(0.05, 0.3)))
    return CutSet(clips)


def heard(samples: np.ndarray, kind: str) -> list[tuple[float, float]]:
    """Return where a tone is heard for 80 ms or more, by the power at its pitch in frames of 20 ms, in seconds."""
    size, hop = RATE // 50, RATE // 200
    waves = np.exp(-2j * np.pi * np.outer(np.arange(size), [*PITCH.values()]) / RATE) * np.hanning(size)[:, None]
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, size // 2), size)[::hop]
    power = dict(zip(PITCH, np.abs(frames @ waves).T, strict=True))
    on = np.flatnonzero(power[kind] > max(power[kind].max() * 0.3, 0.03 * max(map(np.max, power.values()))))
    groups = np.split(on, np.flatnonzero(np.diff(on) > 10) + 1)
    return [(group[0] * hop / RATE, group[-1] * hop / RATE) for group in groups if len(group) > 16]


class Said(NamedTuple):
    """One sound as a caption names it."""

    kind: str
    count: int
    length: str
    loudness: str


NUMBER = {"two": 2, "twice": 2, "three": 3, "single": 1, "one": 1, "once": 1}


def parsed(caption: str) -> list[list[Said]]:
    """Return the steps of a caption in the order of time."""
    caption = caption.removeprefix("first ")
    steps = re.split(r", then | and finally | followed by | before ", caption)
    if " after " in caption:
        steps = caption.split(" after ")[::-1]
    return [
        [said(text) for text in re.split(" over | together with | while | and at the same time ", step)]
        for step in steps
    ]


def said(text: str) -> Said:
    """Return what a phrase says; it names one sound."""
    (kind,) = [kind for kind in PITCH if re.search(rf"\b{kind}", text)]
    count = [NUMBER[word] for word in re.findall(r"\w+", text) if word in NUMBER]
    short, long = re.search("short|brief", text), re.search("long|lengthy", text)
    loudness = re.search("loud|soft", text)
    return Said(kind, *(count or [1]), "short" if short else "long" if long else "", loudness[0] if loudness else "")


def scenes_of(transform: Scenes, batches: int) -> list[MonoCut]:
    return [cut for number in range(batches) for cut in transform(batch(number)) if "segments" in cut.custom]


def test_captions_say_what_is_heard() -> None:
    found = dict.fromkeys(("counted", "together", "in order", "short", "long", "loud"), 0)
    for scene in scenes_of(Scenes(probability=1.0, words=WORDS), 30):
        samples = load(scene).numpy()
        text = scene.supervisions[0].text
        steps = parsed(text)
        named = [one for step in steps for one in step]
        assert {one.kind for one in named} == {kind for kind in PITCH if heard(samples, kind)}, text
        times = {one.kind: heard(samples, one.kind) for one in named}
        for one in named:
            assert len(times[one.kind]) == one.count, text
            lasts = times[one.kind][0][1] - times[one.kind][0][0]
            assert one.length != "short" or lasts <= 0.65, text
            assert one.length != "long" or lasts >= 1.95, text
            found["counted"] += one.count > 1
            found["short"] += one.length == "short"
            found["long"] += one.length == "long"
        for step, later in pairwise(steps):
            assert max(times[one.kind][-1][1] for one in step) <= min(times[one.kind][0][0] for one in later) + 0.02, (
                text
            )
            found["in order"] += 1
        for one, other in (step for step in steps if len(step) == 2):
            ((first, last),), ((begin, end),) = sorted((times[one.kind], times[other.kind]))
            assert first < begin < end < last, text
            found["together"] += 1
        if any(one.loudness for one in named):
            loud, soft = sorted(named, key=lambda one: one.loudness)
            assert (loud.loudness, soft.loudness) == ("loud", "soft"), text
            level = {one.kind: power(samples, one.kind, times[one.kind][0]) for one in named}
            assert level[loud.kind] - level[soft.kind] > 11.5, text
            found["loud"] += 1
    assert all(count >= 5 for count in found.values()), found


def power(samples: np.ndarray, kind: str, time: tuple[float, float]) -> float:
    """Return the level of a tone in dB in the middle of its time."""
    part = samples[round((time[0] + 0.03) * RATE) : round((time[1] - 0.03) * RATE)]
    wave = np.exp(-2j * np.pi * PITCH[kind] / RATE * np.arange(len(part)))
    return 20 * np.log10(abs(np.mean(part * wave)))


def test_segments_are_where_the_sounds_are_and_gaps_are_silent() -> None:
    for scene in scenes_of(Scenes(probability=1.0, words=WORDS), 15):
        samples = load(scene).numpy()
        inside = np.zeros(len(samples), dtype=bool)
        kinds = {words.text: kind for kind, words in WORDS.items()}
        by_kind: dict[str, list] = {}
        for segment in scene.custom["segments"]:
            assert 0 <= segment["start"] < segment["end"] <= scene.duration
            inside[round(segment["start"] * RATE) : round(segment["end"] * RATE)] = True
            by_kind.setdefault(kinds[segment["text"]], []).append((segment["start"], segment["end"]))
        assert not samples[~inside].any()
        for kind, times in by_kind.items():
            np.testing.assert_allclose(heard(samples, kind), times, atol=0.025)
        starts = [segment["start"] for segment in scene.custom["segments"]]
        assert starts == sorted(starts)


def test_a_batch_gets_neither_more_audio_nor_more_clips_and_uses_each_clip_once() -> None:
    joined = twins = 0
    for number in range(30):
        before = list(batch(number))
        after = list(Scenes(probability=0.7, words=WORDS, longest=6.0)(batch(number)))
        assert sum(cut.num_samples for cut in after) <= sum(cut.num_samples for cut in before)
        assert len(after) <= len(before)
        assert len({cut.id for cut in after}) == len(after)
        made = {cut.id.split("#")[0] for cut in after}
        parts = [part for name in made for part in name.split(">")]
        assert sorted(parts) == sorted(cut.id for cut in before)
        scenes = [cut for cut in after if "#" in cut.id]
        assert all(cut.duration <= 6.0 and "labels" not in cut.custom and cut.custom["source"] == 3 for cut in scenes)
        assert all(float(load(cut).abs().max()) <= 1.0 for cut in scenes)
        joined += any(">" in cut.id for cut in scenes)
        twins += sum(cut.id.endswith(".1") for cut in scenes)
    assert joined > 20
    assert twins > 20


def test_a_twin_has_the_same_sounds_and_another_caption() -> None:
    scenes = {scene.id: scene for scene in scenes_of(Scenes(probability=1.0, twins=1.0, words=WORDS), 20)}
    pairs = [(scenes[name[:-1] + "0"], scene) for name, scene in scenes.items() if name.endswith(".1")]
    assert len(pairs) > 20
    for first, second in pairs:
        steps = [parsed(scene.supervisions[0].text) for scene in (first, second)]
        kinds = [sorted(one.kind for step in scene for one in step) for scene in steps]
        assert kinds[0] == kinds[1]
        assert first.supervisions[0].text != second.supervisions[0].text
        order = [[sorted(one.kind for one in step) for step in scene] for scene in steps]
        about = [sorted((one.kind, one.count, one.length) for step in scene for one in step) for scene in steps]
        assert order[0] != order[1] or about[0] != about[1]


def test_drawn_by_seed_and_draw_alone() -> None:
    def made(transform: Scenes, number: int = 0) -> list[tuple]:
        cuts = transform(pickle.loads(pickle.dumps(batch(number))))
        return [(cut.id, cut.supervisions[0].text, load(cut).tolist(), cut.custom.get("segments")) for cut in cuts]

    transform = Scenes(words=WORDS)
    first = made(transform)
    torch.rand(3), np.random.rand(3)
    assert made(pickle.loads(pickle.dumps(transform))) == first
    assert made(Scenes(words=WORDS, seed=1)) != first


def test_captions_name_clips_without_words_as_they_are() -> None:
    """What `concatenate` did: one clip after the other, whole, with the captions in order."""
    transform = Scenes(probability=1.0, least=2, most=3, overlaps=0.0, repeats=0.0, twins=0.0)
    seen = set()
    for number in range(10):
        for scene in transform(batch(number)):
            if "#" not in scene.id:
                continue
            texts = [segment["text"] for segment in scene.custom["segments"]]
            assert all(not text.endswith(".") for text in texts)
            steps = parsed(scene.supervisions[0].text)
            assert [[one.kind for one in step] for step in steps] == [[said(text).kind] for text in texts]
            seen.add(len(texts))
    assert seen == {2, 3}


def test_clips_that_fill_their_time_are_joined_without_gaps() -> None:
    full = CutSet([clip(kind, n, 1.0, 1.0, start=0.0) for n, kind in enumerate(("dog", "rain"))])
    (scene,) = Scenes(probability=1.0, least=2, most=2, overlaps=0.0, repeats=0.0, twins=0.0)(full)
    assert scene.num_samples == 2 * RATE


def test_clips_of_one_caption_are_not_joined() -> None:
    same = CutSet([clip("rain", number, 2.0, 3.0) for number in range(4)])
    assert [cut.id for cut in Scenes(probability=1.0, least=2)(same)] == [cut.id for cut in same]


def test_the_loudest_event_is_cut_out() -> None:
    samples = np.zeros(4 * RATE, dtype=np.float32)
    samples[4000:5000] = 0.01
    samples[12000:16000] = 0.2
    samples[14000:14400] = 0.5
    event = loudest_event(samples, RATE, WORDS["dog"])
    assert np.array_equal(event.samples, samples[12000:16000])
    assert abs(event.peak - 2000) < 400
    assert np.array_equal(whole_event(samples, RATE, WORDS["dog"]).samples, samples[4000:16000])


def test_four_knocks_are_not_counted_as_one() -> None:
    once, often = np.zeros((2, 2 * RATE), dtype=np.float32)
    once[4000:5000] = 0.3
    for start in range(4000, 8000, 1600):
        often[start : start + 400] = 0.3
    assert countable(loudest_event(once, RATE, WORDS["dog"]), RATE)
    assert not countable(loudest_event(often, RATE, WORDS["dog"]), RATE)
    assert countable(loudest_event(often, RATE, WORDS["yes"]), RATE)
    assert not countable(loudest_event(once, RATE, WORDS["rain"]), RATE)


def test_by_name_with_words_as_on_the_command_line() -> None:
    words = {"sound: dog": {"nouns": ["a dog bark"], "clauses": ["a dog barks"], "plural": "dog barks"}}
    (made,) = augmentations({"scenes": {"words": words, "probability": 1.0}})
    assert made.words == {"sound: dog": WORDS["dog"]}
    for wrong, message in [
        ({"dog": {"noun": ["a dog"]}}, "'dog' have no field 'noun'; did you mean 'nouns'"),
        ({"dog": {"plural": "dogs"}}, "need lists of nouns and clauses, at least one of either"),
        ({"dog": {"nouns": "a dog"}}, "need lists of nouns and clauses"),
    ]:
        with pytest.raises(ValueError, match=message):
            Scenes(words=wrong)
    for options, message in [
        ({"most": 5}, "1 <= least <= most <= 4"),
        ({"least": 3, "most": 2}, "least=3, most=2"),
        ({"twins": 1.5}, "twins within 0 to 1; got twins=1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            Scenes(**options)


def test_scenes_come_before_mixes_and_only_of_some_clips() -> None:
    mixed = Mix(probability=1.0)(batch(0))
    with pytest.raises(ValueError, match="Scenes must stand before Mix"):
        Scenes(probability=1.0)(mixed)
    only = list(Only("dog/", Scenes(probability=1.0, least=1, words=WORDS))(batch(0)))
    assert all(cut.id.startswith("dog/") for cut in only if "#" in cut.id)
    assert sum("#" not in cut.id for cut in only) >= 8
    joined = list(Only("", Scenes(probability=1.0, least=2, twins=0.0, words=WORDS))(batch(0)))
    assert len(joined) < 10
