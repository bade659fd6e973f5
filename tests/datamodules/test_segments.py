"""Segments: read from manifests, and true of the audio after every crop, change of speed and mix."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, SupervisionSegment
from lhotse.cut import MixedCut
from lhotse.dataset.cut_transforms import PerturbSpeed

from epochs import tokenize
from slap.cli.main import main
from slap.core.segments import Segment
from slap.datamodules import AudioTextData, Clip, ManifestError, captions_of, read_manifest, write_cuts, write_manifest
from slap.datamodules.audio.load import decoded, load, mono
from slap.datamodules.augment import augmentations
from slap.datamodules.augment.basic import Mix, RandomSpeed
from slap.datamodules.augment.mixup import Mixup
from slap.datamodules.segments import segments_of, with_segments

RATE = 16_000
HEARD = ((0.2, 0.45), (0.6, 0.8))
CLIPS = 6


def pitch(text: str) -> float:
    return 400.0 * (1 + int(text.split()[1]))


def row(start: float, end: float, text: str) -> dict:
    return {"start": start, "end": end, "text": text}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.jsonl: six clips of 1.00, 1.05, ... s with the tone of their phrase, "tone i", where it is heard."""
    folder, clips = tmp_path_factory.mktemp("segments"), []
    for i in range(CLIPS):
        time = np.arange(RATE + 800 * i) / RATE
        inside = np.any([(time >= start) & (time < end) for start, end in HEARD], axis=0)
        wave = 0.5 * inside * np.sin(2 * np.pi * pitch(f"tone {i}") * time)
        soundfile.write(folder / f"{i}.wav", wave, RATE, subtype="FLOAT")
        segments = [row(*span, f"tone {i}") for span in HEARD]
        clips.append(Clip(f"c{i}", folder / f"{i}.wav", [f"sound {i}"], segments=segments))
    write_manifest(folder / "m.jsonl", clips)
    return folder


@pytest.fixture
def cuts(folder: Path) -> CutSet:
    made = [decoded(mono(cut, RATE)) for cut in read_manifest(folder / "m.jsonl")]
    for cut in made:
        cut.custom["draw"] = cut.id
    return CutSet(made)


def box(values: torch.Tensor, width: int = 160) -> torch.Tensor:
    """Return the mean of 10 ms around each sample, in which tones of other pitches cancel."""
    sums = torch.nn.functional.pad(values, (width // 2 + 1, width - width // 2)).cumsum(0)
    return (sums[width + 1 :] - sums[: -width - 1])[: len(values)] / width


def check_true(segments, wave: torch.Tensor, speed: float = 1.0) -> None:
    """Assert that each tone is heard where the segments say, and nowhere else, to 15 ms."""
    time = torch.arange(len(wave), dtype=torch.float64) / RATE
    for i in range(CLIPS):
        turned = wave.double() * torch.exp(-2j * torch.pi * pitch(f"tone {i}") * speed * time)
        heard = box(box(turned)).abs()
        own = [one for one in segments if one[2] == f"tone {i}"]
        inside, near = torch.zeros_like(time, dtype=torch.bool), torch.zeros_like(time, dtype=torch.bool)
        for start, end, _ in own:
            assert 0 <= start < end <= len(wave) / RATE + 1e-6
            inside |= (time >= start) & (time < end)
            near |= ((time - start).abs() < 0.015) | ((time - end).abs() < 0.015)
        if not own:
            assert heard.max() < 0.03
        else:
            loud = heard > max(heard.max() / 6, 0.03)
            assert ((loud == inside) | near).all(), f"tone {i}: {own}"


def rows_of(cut) -> list[tuple]:
    return [tuple(one.values()) for one in segments_of(cut)]


# -- manifests --------------------------------------------------------------------------------------------------------


def test_a_table_gives_segments_in_seconds_of_the_clip(folder: Path) -> None:
    cuts = list(read_manifest(folder / "m.jsonl"))
    assert cuts[2].custom["segments"] == [row(*span, "tone 2") for span in HEARD]
    assert list(captions_of(cuts[:1])) == ["sound 0", "tone 0", "tone 0"]  # a tokenizer learns from phrases, too


def manifest(folder: Path, segments, **more) -> Path:
    record = {"audio": str(folder / "0.wav"), "caption": "sound", "segments": segments, **more}
    path = folder / "one.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return path


def test_a_clip_within_a_file_counts_from_its_own_begin(folder: Path) -> None:
    (cut,) = read_manifest(manifest(folder, [row(0.1, 0.3, " tone 0 ")], start=0.5, duration=0.4))
    assert cut.custom["segments"] == [row(0.1, 0.3, "tone 0")]
    check_true(rows_of(cut), load(mono(cut, RATE)))


def test_times_of_the_file_are_refused(folder: Path) -> None:
    path = manifest(folder, [row(0.6, 0.8, "tone 0")], start=0.5, duration=0.4)
    with pytest.raises(ManifestError, match=r"lies outside of the clip, which lasts 0\.400 s"):
        read_manifest(path)


def test_a_rounded_end_is_cut_at_that_of_the_clip(folder: Path) -> None:
    (cut,) = read_manifest(manifest(folder, [row(0.6, 1.2, "tone 0")]))
    assert cut.custom["segments"] == [row(0.6, 1.0, "tone 0")]


def test_no_segments_and_none_that_are_heard_are_two_things(folder: Path) -> None:
    (cut,) = read_manifest(manifest(folder, []))
    assert cut.custom["segments"] == []
    (cut,) = read_manifest(manifest(folder, None))
    assert "segments" not in cut.custom
    written = write_manifest(folder / "two.jsonl", [Clip("a", folder / "0.wav", ["a"], segments=[])])
    assert json.loads(written.read_text())["segments"] == []


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ("dog", "must be a JSON list"),
        ({"start": 0}, "must be a list of"),
        ([{"start": 0, "end": 1}], "segment 1: it must be"),
        ([row(0, 1, "dog"), row(0, 1, " ")], "segment 2: its `text` must be a phrase"),
        ([row("0", 1, "dog")], "its times must be numbers"),
        ([row(True, 2, "dog")], "its times must be numbers"),
        ([row(-1, 1, "dog")], "from 0 s on"),
        ([row(1, 1, "dog")], "must end after its start"),
    ],
)
def test_malformed_segments_are_refused_with_the_line(folder: Path, segments, message: str) -> None:
    with pytest.raises(ManifestError, match=f"line 1: `segments`.*{message}"):
        read_manifest(manifest(folder, segments))


def test_a_csv_holds_segments_as_json(folder: Path) -> None:
    text = json.dumps([row(0.2, 0.45, "tone 0")]).replace('"', '""')
    (folder / "m.csv").write_text(f'audio,caption,segments\n0.wav,sound,"{text}"\n1.wav,other,\n')
    first, second = read_manifest(folder / "m.csv")
    assert first.custom["segments"] == [row(0.2, 0.45, "tone 0")]
    assert "segments" not in second.custom


def test_rows_of_one_clip_with_different_segments_are_refused(folder: Path) -> None:
    rows = [{"audio": "0.wav", "caption": "a", "segments": [row(0, end, "dog")]} for end in (0.5, 0.6)]
    (folder / "twice.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.raises(ManifestError, match="other `segments` than on line 1"):
        read_manifest(folder / "twice.jsonl")


def marked(cut: MonoCut, *spans: tuple[float, float], text: str) -> MonoCut:
    """Return a Lhotse cut whose supervisions say when its phrase is heard, beside its caption."""
    own = [
        SupervisionSegment(f"{cut.id}-s{i}", cut.recording_id, start, end - start, text=text, custom={"segment": True})
        for i, (start, end) in enumerate(spans)
    ]
    cut.supervisions = [*cut.supervisions, *own]
    cut.custom = {}
    return cut


def test_supervisions_that_are_marked_are_segments_and_others_captions(folder: Path) -> None:
    (cut, other, *_) = read_manifest(folder / "m.jsonl")
    cut = marked(cut, (0.2, 0.45), (0.6, 0.8), text="tone 0")
    part = cut.truncate(offset=0.3, duration=0.4, keep_excessive_supervisions=True)  # Lhotse moves supervisions
    other.custom = {}
    other.supervisions[0].duration = 0.1  # a caption of Lhotse's times is one of the whole cut
    whole = CutSet([cut, part.with_id("part"), other])
    whole.to_file(folder / "lhotse.jsonl.gz")
    write_cuts(folder / "ours.jsonl.gz", whole)
    for name in ("lhotse.jsonl.gz", "ours.jsonl.gz"):
        first, second, third = read_manifest(folder / name)
        assert first.custom["segments"] == [row(*span, "tone 0") for span in HEARD]
        assert second.custom["segments"] == [row(0.0, 0.15, "tone 0"), row(0.3, 0.4, "tone 0")]
        assert "segments" not in third.custom
        assert [[part.text for part in one.supervisions] for one in (first, second, third)] == [
            ["sound 0"],
            ["sound 0"],
            ["sound 1"],
        ]
        check_true(rows_of(second), load(mono(second, RATE)))
    assert len(whole[0].supervisions) == 3  # what was written is as it was


def test_a_lhotse_mix_has_the_segments_of_its_tracks(folder: Path) -> None:
    (first, second, *_) = read_manifest(folder / "m.jsonl")
    second = marked(second, *HEARD, text="tone 1")
    second.supervisions = second.supervisions[1:]
    CutSet([first.mix(second, offset_other_by=0.3).with_id("mix")]).to_file(folder / "mix.jsonl")
    (mix,) = read_manifest(folder / "mix.jsonl")
    assert len(rows_of(mix)) == 4
    assert [part.text for part in mix.supervisions] == ["sound 0"]
    check_true(rows_of(mix), load(mono(mix, RATE)))


def test_a_malformed_segment_of_a_cut_is_refused(folder: Path) -> None:
    for value in ([row(0, 9, "dog")], [row(1, 0, "dog")]):
        (cut, *_) = read_manifest(folder / "m.jsonl")
        cut.custom = {"segments": value}
        CutSet([cut]).to_file(folder / "wrong.jsonl")
        with pytest.raises(ManifestError, match="line 1: the custom field `segments`"):
            read_manifest(folder / "wrong.jsonl")
    (cut, *_) = read_manifest(folder / "m.jsonl")
    CutSet([marked(cut, (0.1, 0.2), text=" ")]).to_file(folder / "wrong.jsonl")
    with pytest.raises(ManifestError, match="is a segment without a text or a duration"):
        read_manifest(folder / "wrong.jsonl")


def test_shards_keep_segments(folder: Path, tmp_path: Path) -> None:
    main(["pack", str(folder / "m.jsonl"), str(tmp_path / "shar"), "--workers", "0"])
    for before, after in zip(read_manifest(folder / "m.jsonl"), read_manifest(tmp_path / "shar"), strict=True):
        assert after.custom["segments"] == before.custom["segments"]


# -- transforms -------------------------------------------------------------------------------------------------------

ALONE = {
    "crop": {"shortest": 0.3},
    "event_crop": {"shortest": 0.2, "longest": 0.5},
    "gain": {},
    "filter": {"spread": 3.0},
    "noise": {"probability": 1.0, "low": 25.0},
}
TOGETHER = {
    "mix": {"probability": 1.0},
    "mixup": {"probability": 1.0},
}


@pytest.mark.parametrize("name", [*ALONE, *TOGETHER])
@pytest.mark.parametrize("seed", range(3))
def test_segments_are_true_after_every_transform(cuts: CutSet, name: str, seed: int) -> None:
    (transform,) = augmentations({name: {**ALONE, **TOGETHER}[name] | {"seed": seed}})
    made = list(transform(cuts))
    for cut in made:
        check_true(rows_of(cut), load(cut))
    phrases = [{text for _, _, text in rows_of(cut)} for cut in made]
    if name in TOGETHER:
        assert any(len(texts) > 1 for texts in phrases)
    if name == "event_crop":
        assert all(phrases)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_segments_of_faster_clips_and_mixes_are_earlier(cuts: CutSet, factor: float) -> None:
    mixes = [cut for cut in Mix(probability=1.0)(cuts) if isinstance(cut, MixedCut)]
    assert mixes
    for before, after in zip([*cuts, *mixes], RandomSpeed((factor,))(CutSet([*cuts, *mixes])), strict=True):
        assert segments_of(after)[0]["start"] == pytest.approx(segments_of(before)[0]["start"] / factor)
        check_true(rows_of(after), load(after), speed=factor)


def test_transforms_one_after_the_other(cuts: CutSet) -> None:
    chain = {"crop": {"shortest": 0.6}, "noise": {"probability": 1.0, "low": 25.0}, "mix": {"probability": 0.6}}
    chain |= {"mixup": {"probability": 0.7}}
    made = cuts
    for transform in augmentations(chain):
        made = transform(made)
    for cut in made:
        check_true(rows_of(cut), load(cut))
    assert max(len(rows_of(cut)) for cut in made) > 4


def test_a_room_keeps_segments(cuts: CutSet) -> None:
    mixes = Mix(probability=1.0)(cuts)
    for before, after in zip(mixes, augmentations({"reverb": {"probability": 1.0}})[0](mixes), strict=True):
        assert segments_of(after) == segments_of(before)


@pytest.mark.parametrize("name", TOGETHER)
def test_a_mix_with_a_clip_that_was_not_annotated_is_not_annotated(cuts: CutSet, name: str) -> None:
    some = CutSet([with_segments(cut, None) if i % 2 else cut for i, cut in enumerate(cuts)])
    (transform,) = augmentations({name: TOGETHER[name]})
    known = {cut.id: segments_of(cut) is not None for cut in some}
    for cut in transform(some):
        parts = [part for mark in "+*>" for part in cut.id.split(mark) if part in known]
        assert (segments_of(cut) is not None) == all(known[part] for part in parts)


def test_mixup_moves_a_clip_that_lies_within_silence(cuts: CutSet) -> None:
    made = [cut for seed in range(4) for cut in Mixup(probability=1.0, seed=seed)(cuts)]
    starts = {one["start"] for cut in made for one in segments_of(cut)}
    assert len(starts) > 4  # a shorter clip begins later, a longer one earlier


# -- batches ----------------------------------------------------------------------------------------------------------


def batches(folder: Path, **options):
    data = AudioTextData(
        train=folder / "m.jsonl", val=folder / "m.jsonl", **{"max_duration": 4.0, "max_clip": None, **options}
    )
    data.connect(RATE, tokenize)
    data.setup("fit")
    return data


def test_batches_hold_segments_and_the_tokens_of_each_phrase_once(folder: Path) -> None:
    found = {}
    for batch in batches(folder).train_dataloader():
        for name, wave, segments in zip(batch.ids, batch.audio.unpack(), batch.segments, strict=True):
            assert all(isinstance(one, Segment) for one in segments)
            check_true(segments, wave)
            found[name] = segments
        names = list(dict.fromkeys(one.text for segments in batch.segments for one in segments))
        assert len(batch.phrases) == len(names) == len(batch)
        assert torch.equal(batch.phrases.values, tokenize(names).values)
    assert found["c3"] == tuple(Segment(*span, "tone 3") for span in HEARD)


def test_random_crops_of_long_clips_move_segments(folder: Path) -> None:
    clips = [
        pair
        for b in batches(folder, max_clip=0.5).train_dataloader()
        for pair in zip(b.audio.unpack(), b.segments, strict=True)
    ]
    assert len(clips) == CLIPS
    for wave, segments in clips:
        assert len(wave) == RATE // 2
        check_true(segments, wave)


def test_windows_of_an_evaluation_move_segments(folder: Path) -> None:
    count = 0
    for batch in batches(folder, window=0.5).val_dataloader():
        for wave, segments in zip(batch.audio.unpack(), batch.segments, strict=True):
            check_true(segments, wave)
            count += 1
    assert count > CLIPS


def test_batches_without_segments_hold_nothing(folder: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [Clip("a", folder / "0.wav", ["a"]), Clip("b", folder / "1.wav", ["b"])])
    (batch,) = batches(tmp_path).train_dataloader()
    assert (batch.segments, batch.phrases) == ((), None)
    (known, other) = (Clip("a", folder / "0.wav", ["a"], segments=[]), Clip("b", folder / "1.wav", ["b"]))
    write_manifest(tmp_path / "m.jsonl", [known, other])
    (batch,) = batches(tmp_path).train_dataloader()
    assert set(batch.segments) == {(), None}
    assert batch.phrases is None


def test_a_transform_that_leaves_segments_behind_is_refused(folder: Path) -> None:
    faster = PerturbSpeed(factors=[0.9, 1.1], p=1.0, randgen=random.Random(0))
    with pytest.raises(ValueError, match=r"changed the duration of clip .* but not its custom field `segments`"):
        next(iter(batches(folder, transforms=[faster]).train_dataloader()))

    def louder(cuts):
        return CutSet([cut.perturb_volume(0.5) for cut in cuts])

    (batch, *_) = batches(folder, transforms=[louder]).train_dataloader()
    for wave, segments in zip(batch.audio.unpack(), batch.segments, strict=True):
        check_true(segments, wave)
