"""Labels on their way from manifests to batches: several a clip, folds, mixup, classes that come equally often."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet
from lhotse.utils import fastcopy
from sklearn.datasets import make_multilabel_classification

from slap.core.packed import Packed
from slap.datamodules import AudioTextData, ManifestError, read_manifest, write_cuts
from slap.datamodules.audio.load import load
from slap.datamodules.augment import augmentations
from slap.datamodules.augment.mixup import Mixup, mixed
from slap.datamodules.labels import all_labels, balancing, labels_of
from slap.datamodules.manifests.filters import held_out
from slap.datamodules.manifests.sequence import ConcatClips, origin_key
from slap.datamodules.sampling.epoch import Source, streams
from slap.datamodules.sampling.mixture import balanced

RATE = 8000


def tokenize(captions):
    return Packed.pack([torch.tensor([1, 2])] * len(captions))


@pytest.fixture
def folder(tmp_path):
    """Forty clips: ten dogs, thirty with rain; those of a decade are one fold; clip 5 has both labels."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        soundfile.write(tmp_path / f"{number}.wav", rng.uniform(-0.5, 0.5, 800 + 80 * (number % 3)), RATE)
        label = "dog" if number < 10 else "rain"
        tags = "dog;rain" if number == 5 else label
        rows.append(f"{number}.wav,{label},{tags},{number // 10 + 1}")
    (tmp_path / "all.csv").write_text("audio,label,tags_events,fold\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_a_table_tells_labels_tags_and_folds_and_needs_no_captions_then(folder):
    clips = read_manifest(folder / "all.csv")
    assert clips[5].custom["tags"] == {"events": ["dog", "rain"]}
    assert (clips[5].custom["labels"], clips[5].custom["fold"]) == ({"label": "dog"}, 1)
    assert [(s.text, s.custom["field"]) for s in clips[5].supervisions] == [("the sound of dog and rain", "template")]
    assert all_labels(clips, "events")[4:6] == [("dog",), ("dog", "rain")]
    assert all_labels(clips, "label")[5] == ("dog",)
    assert all_labels(clips, "other") == [()] * 40


def test_json_tells_the_same(folder):
    about = {"tags": {"events": ["dog", "rain"]}, "fold": 2, "corpus": "mine", "split": "a", "origin": {"youtube": "x"}}
    (folder / "one.jsonl").write_text(json.dumps({"audio": "3.wav", "caption": "a dog", **about}))
    (clip,) = read_manifest(folder / "one.jsonl")
    assert {name: clip.custom[name] for name in about} == about


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio,label,fold\n1.wav,dog,two\n", "line 2: `fold` must be a whole number, got 'two'"),
        ("audio,tags\n1.wav,dog;;rain\n", "line 2: `tags` must be labels with `;` between them"),
        ("audio,caption,fold\n1.wav,a,1\n1.wav,b,2\n", "1.wav' has the fold 2, but on line 2 1"),
        ("audio,caption,tags_a\n1.wav,a,x\n1.wav,b,y\n", "has the a tags ['y'], but on line 2 ['x']"),
        ("audio,text\n1.wav,dog\n", "or labels in `label` or `tags`"),
    ],
)
def test_tables_that_cannot_be_meant(folder, text, message):
    (folder / "wrong.csv").write_text(text)
    with pytest.raises(ManifestError) as error:
        read_manifest(folder / "wrong.csv")
    assert message in str(error.value)


def test_several_labels_reach_the_batch(folder):
    data = AudioTextData(train=folder / "all.csv", test=folder / "all.csv", max_clip=None, max_duration=2.0)
    data.connect(RATE, tokenize)
    data.setup("fit")
    data.setup("test")
    for loader in (data.train_dataloader(), data.test_dataloader()):
        for batch in loader:
            for name, shares in zip(batch.ids, batch.shares("events"), strict=True):
                number = int(Path(name).stem)
                expected = {"dog": 1.0, "rain": 1.0} if number == 5 else {"dog" if number < 10 else "rain": 1.0}
                assert shares == expected
            assert set(batch.shares("label")[0]) <= {"dog", "rain"}
    data.teardown("fit")


def test_labels_of_indexed_cuts_are_those_of_the_cuts(folder):
    cuts = read_manifest(folder / "all.csv")
    many = read_manifest(write_cuts(folder / "many.jsonl.gz", [*cuts, cuts[0].append(cuts[1]).with_id("both")]))
    for clips in (many, many[::-3], ConcatClips([many, cuts])):
        for task in ("label", "events"):
            assert all_labels(clips, task) == [labels_of(cut.custom, task) for cut in clips]
    assert all_labels(many, "events")[4:6] == [("dog",), ("dog", "rain")]


# -- parts of a manifest ----------------------------------------------------------------------------------------------


def names(path):
    return [int(Path(cut.id).stem) for cut in read_manifest(path)]


def test_folds_of_a_manifest(folder):
    assert names(f"{folder}/all.csv#fold=2") == [*range(10, 20)]
    assert names(f"{folder}/all.csv#fold=4,2") == [*range(10, 20), *range(30, 40)]
    assert names(f"{folder}/all.csv#fold=not 1,2") == [*range(20, 40)]


def test_a_share_that_is_held_out_and_the_rest(folder):
    held, rest = names(f"{folder}/all.csv#heldout=0.3"), names(f"{folder}/all.csv#train=0.3")
    assert sorted(held + rest) == [*range(40)]
    assert 4 <= len(held) <= 20
    lines = (folder / "all.csv").read_text().splitlines()
    (folder / "some.csv").write_text("\n".join([lines[0], *lines[20:0:-2]]) + "\n")
    assert set(names(f"{folder}/some.csv#heldout=0.3")) == set(held) & set(names(folder / "some.csv"))


def test_clips_of_one_origin_are_held_out_together(folder, monkeypatch):
    clips = read_manifest(folder / "all.csv")
    origins = np.array([[origin_key("freesound", str(number // 4)), number] for number in range(40)])
    monkeypatch.setattr(clips, "origins", lambda: origins)
    held = held_out(clips, 0.4, folder).reshape(10, 4)
    assert (held.all(1) | ~held.any(1)).all()
    assert 0 < held.sum() < 40


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("fold=7", "there is no fold 7; the folds are 1, 2, 3, 4"),
        ("fold=1,1", "folds are different whole numbers"),
        ("fold=a", "folds are different whole numbers"),
        ("heldout=2", "a number between 0 and 1, got '2'"),
        ("held=0.3", "the filter `#held=` is called `#heldout=0.3`"),
        ("rest=0.3", "the filter `#rest=` is called `#train=0.3`"),
        ("fold=not 1,2,3,4", "selects none of the 40 clips"),
        ("every=3", "it can be #fold=1,2,3"),
    ],
)
def test_parts_that_are_none(folder, chosen, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(f"{folder}/all.csv#{chosen}")


def test_a_file_whose_name_has_the_mark_is_a_file(folder):
    (folder / "all.csv").rename(folder / "all#fold=1.csv")
    assert len(read_manifest(folder / "all#fold=1.csv")) == 40


def test_clips_without_fold(folder):
    (folder / "none.csv").write_text("audio,label\n1.wav,dog\n")
    with pytest.raises(ManifestError, match=r"clip '.*/1.wav' has no `fold`"):
        read_manifest(f"{folder}/none.csv#fold=1")


def test_validation_clips_may_not_test(folder):
    paths = [f"{folder}/all.csv#fold={fold}" for fold in ("1,2", "2", "3")]
    data = AudioTextData(train=paths[0], val=paths[1], test=paths[2], disjoint=True)
    data.connect(RATE, tokenize)
    data.setup("fit")
    data.setup("test")
    wrong = AudioTextData(train=paths[2], val=paths[0], test=paths[1], disjoint=True)
    wrong.connect(RATE, tokenize)
    for stage in ("fit", "validate", "test"):
        with pytest.raises(ValueError, match=r"10 of the 10 test clips are validation clips too, e.g. '.*/10.wav'"):
            wrong.setup(stage)


def test_training_clips_may_not_test(folder):
    """One file under two paths, in a table that is not read before training, was no leak."""
    (folder / "lists").mkdir()
    (folder / "lists" / "test.csv").write_text("audio,caption\n../30.wav,x\n../1.wav,y\n")
    (folder / "train.csv").write_text("audio,caption\n./1.wav,y\n2.wav,z\n")
    data = AudioTextData(train=folder / "train.csv", test=folder / "lists" / "test.csv", disjoint=True)
    data.connect(RATE, tokenize)
    with pytest.raises(ValueError, match=r"1 of the 2 test clips are training clips too, e.g. '.*/1.wav'"):
        data.setup("fit")


def test_clips_of_a_table_to_test_on_that_are_trained_on_are_told(folder, caplog):
    (folder / "test.csv").write_text("audio,caption\n1.wav,y\n2.wav,z\n")
    (folder / "train.csv").write_text("audio,caption\n./1.wav,y\n")
    data = AudioTextData(train=folder / "train.csv", test=folder / "test.csv")
    data.connect(RATE, tokenize)
    data.setup("fit")
    assert "of the 2 clips in" in caplog.text
    assert "1 have the id and 0 the origin of a training clip" in caplog.text


# -- classes that come equally often ----------------------------------------------------------------------------------


def test_weights_by_hand_on_many_labels():
    _, truth = make_multilabel_classification(200, n_classes=6, random_state=0)
    labels = [tuple(str(k) for k in np.flatnonzero(row)) for row in truth]
    counts = truth.sum(0)
    expected = np.array([sum(1 / counts[k] for k in np.flatnonzero(row)) for row in truth])
    assert balancing(labels) == pytest.approx(expected / expected.sum())
    with pytest.raises(ValueError, match="no training clip has a label to balance by"):
        balancing([(), ()])


def test_a_balanced_epoch_is_as_long_as_asked_and_has_classes_equally_often(folder):
    data = AudioTextData(train=folder / "all.csv", balance="label", epoch_clips=80, max_duration=2.0, max_clip=1.0)
    data.connect(RATE, tokenize)
    data.setup("fit")
    loader = data.train_dataloader()
    seen = [name for batch in loader for name in batch.labels["label"]]
    assert Counter(seen) == {"dog": 40, "rain": 40}
    loader.sampler.set_epoch(1)
    again = [name for batch in loader for name in batch.ids]
    assert max(Counter(again).values()) == 4  # ten dogs, four times each
    data.teardown("fit")


def test_draws_by_weight():
    weights = np.array([0.1, 0.0, 0.6, 0.3])
    source = Source(2, 4, taken=7, weights=weights)
    totals = np.zeros(8, dtype=np.int64)
    for epoch in range(300):
        occurrences = source.occurrences(8, "x", 0, epoch)
        assert len(set(occurrences.tolist())) == 7  # each has a number of its own
        counts = np.bincount(occurrences % 8, minlength=8)
        assert (np.abs(counts[2:6] - 7 * weights) < 1).all()
        totals += counts
    assert totals[2:6] / 2100 == pytest.approx(weights, abs=0.01)
    assert totals[3] == 0
    assert source.occurrences(8, "x", 0, 1).tolist() == source.occurrences(8, "x", 0, 1).tolist()
    assert source.occurrences(8, "x", 0, 1).tolist() != source.occurrences(8, "x", 0, 2).tolist()


def test_draws_by_weight_keep_to_the_parts_of_storage():
    parts = np.array([0, 10, 20, 30, 40])
    source = Source(0, 40, parts=parts, taken=60, weights=np.full(40, 1 / 40))
    part = source.occurrences(40, "x", 0, 3) % 40 // 10
    assert len(np.flatnonzero(np.diff(part))) == 3
    line = source.occurrences(40, "turns 0", 0, 0)
    ranks = streams([line], np.full(60, 100), True, 0, 0, 2)
    assert sorted(np.concatenate(ranks)) == list(range(60))


def test_manifests_share_a_balanced_epoch_by_their_weights():
    sources = balanced([Source(0, 2), Source(2, 3)], np.array([0.5, 0.3, 0.1, 0.1, 0.0]), total=10)
    assert [source.taken for source in sources] == [8, 2]
    (only,) = balanced([Source(0, 2), Source(2, 3)], np.array([0.0, 0.0, 0.5, 0.5, 0.0]))
    assert (only.first, only.taken) == (2, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 2}, "balance, shares and repeats all say"),
        ({"weights": {"a": 1.0}}, "balance, shares and repeats all say"),
        ({"epoch_clips": 0}, "epoch_clips must be at least the number of manifests"),
    ],
)
def test_balance_with_what_contradicts_it(folder, options, message):
    train = {"a": folder / "all.csv"} if "weights" in options else folder / "all.csv"
    with pytest.raises(ValueError, match=message):
        AudioTextData(train=train, balance="label", **options)


# -- mixup ------------------------------------------------------------------------------------------------------------


def drawn(folder, **options):
    data = AudioTextData(
        train=folder / "all.csv", max_duration=8.0, max_clip=1.0, augment={"mixup": options or {"probability": 1.0}}
    )
    data.connect(RATE, tokenize)
    data.setup("fit")
    batches = list(data.train_dataloader())
    data.teardown("fit")
    return batches


def test_mixed_clips_have_the_labels_of_both(folder):
    clips = {cut.id: cut for cut in read_manifest(folder / "all.csv")}
    seen = 0
    for batch in drawn(folder):
        for number, name in enumerate(batch.ids):
            first, second = (clips[part] for part in name.split("*"))
            shares, events = batch.shares("label")[number], batch.shares("events")[number]
            labels = {cut.custom["labels"]["label"] for cut in (first, second)}
            assert set(shares) == labels
            assert sum(shares.values()) == pytest.approx(1.0)
            assert batch.labels["label"][number] is None
            tags = {tag for cut in (first, second) for tag in cut.custom["tags"]["events"]}
            assert set(events) == tags
            assert all(0 < share <= 1 + 1e-9 for share in events.values())
            assert batch.audio.sizes[number] == first.num_samples
            seen += len(labels) == 2
    assert seen > 3


def test_a_mix_is_the_weighted_sum_of_its_clips(folder):
    clips = read_manifest(folder / "all.csv")
    batch = [fastcopy(clips[number], custom={**clips[number].custom, "draw": str(number)}) for number in (5, 20)]
    transform = Mixup(probability=1.0, seed=3)
    one = next(iter(transform(CutSet(batch))))
    rng = transform.rng(batch[0])
    rng.random()
    rng.choice(batch[1:])
    share = rng.betavariate(10, 10)
    expected = mixed(load(batch[0]), load(batch[1]), share, rng.random())
    assert torch.equal(load(one), expected)
    assert one.custom["tags"]["events"] == {"dog": share, "rain": pytest.approx(1.0)}
    assert one.custom["tags"]["label"] == {"dog": share, "rain": 1 - share}
    texts = [cut.supervisions[0].text for cut in batch]
    assert one.supervisions[0].text == " and ".join(texts if share >= 0.5 else texts[::-1])


def test_the_arithmetic_of_a_mix():
    first, second = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0, 5.0, 7.0])
    assert mixed(first, second, 0.5, 0.0).tolist() == [-1.0, 1.0]
    assert mixed(first, second, 0.25, 1.0).tolist() == pytest.approx([-0.25 - 0.75, 0.25 + 0.75])
    assert mixed(first, second, 1.0, 0.5).tolist() == [-1.0, 1.0]


def test_mixup_is_repeatable_and_optional(folder):
    assert [b.ids for b in drawn(folder)] == [b.ids for b in drawn(folder)]
    assert torch.equal(drawn(folder)[0].audio.values, drawn(folder)[0].audio.values)
    assert all("*" not in name for batch in drawn(folder, probability=0.0) for name in batch.ids)
    some = [("*" in name) for batch in drawn(folder, probability=0.5) for name in batch.ids]
    assert 8 < sum(some) < 32


@pytest.mark.parametrize(
    ("options", "needed"), [({"probability": 1.5}, "probability within 0 to 1"), ({"alpha": 0.0}, "alpha > 0")]
)
def test_mixup_out_of_range(options, needed):
    with pytest.raises(ValueError, match=f"Mixup needs {needed}; got"):
        augmentations({"mixup": options})


def test_mixes_with_captions_have_no_labels_of_either_kind(folder):
    data = AudioTextData(train=folder / "all.csv", max_clip=1.0, augment={"mix": {"probability": 1.0}})
    data.connect(RATE, tokenize)
    data.setup("fit")
    for batch in data.train_dataloader():
        for number, name in enumerate(batch.ids):
            assert ("+" in name) == (batch.shares("events")[number] is None)
    data.teardown("fit")
