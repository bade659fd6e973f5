"""Questions with their own candidates in manifests: what is read, and what is refused with its file and line."""

import json

import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from slap.datamodules import AudioTextData
from slap.datamodules.manifests.clip import Clip, write_manifest
from slap.datamodules.manifests.read import read_manifest, write_cuts

ORDER = ["a dog barks, then rain", "rain, then a dog barks"]
COUNT = ["two knocks", "one knock", "three knocks"]


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, torch.randn(8000, generator=torch.Generator().manual_seed(0)).mul(0.1).numpy(), 8000)
    return path


def rows(path, *records):
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    return path


def test_what_is_written_is_read(tmp_path, sound):
    clip = Clip("a", sound, ["a dog and rain"], choices={"order": ORDER, "count": COUNT})
    (cut,) = read_manifest(write_manifest(tmp_path / "m.jsonl", [clip]))
    assert cut.custom["choices"] == {"order": ORDER, "count": COUNT}
    (again,) = read_manifest(write_cuts(tmp_path / "cuts.jsonl.gz", [cut]))
    assert again.custom["choices"] == {"order": ORDER, "count": COUNT}


def test_a_cell_of_a_csv_holds_json(tmp_path, sound):
    path = tmp_path / "m.csv"
    path.write_text('audio,caption,choices\na.wav,a dog and rain,"{""order"": [""dog, rain"", ""rain, dog""]}"\n')
    assert read_manifest(path)[0].custom["choices"] == {"order": ["dog, rain", "rain, dog"]}


def test_rows_of_one_clip_add_their_questions(tmp_path, sound):
    first = {"audio": "a.wav", "caption": "a dog", "choices": {"order": ORDER}}
    second = {"audio": "a.wav", "caption": "rain", "choices": {"count": COUNT}}
    (cut,) = read_manifest(rows(tmp_path / "m.jsonl", first, second))
    assert cut.custom["choices"] == {"order": ORDER, "count": COUNT}
    second["choices"] = {"order": ORDER[::-1]}
    with pytest.raises(ValueError, match=r"m\.jsonl, line 2: clip .* has the order choices"):
        read_manifest(rows(tmp_path / "m.jsonl", first, second))


@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        ({"order": ORDER[:1]}, "'order' has"),
        ({"order": [ORDER[0], f" {ORDER[0]}"]}, "'order' has"),
        ({"order": ORDER[0]}, "'order' has"),
        ({"order": [ORDER[0], ""]}, "no text or empty"),
        ({"order": [ORDER[0], 3]}, "no text or empty"),
        ({"": ORDER}, "a task is a name"),
        ({"a/b": ORDER}, "a task is a name without a slash"),
        (ORDER, "got"),
        ("not JSON", "as JSON; got 'not JSON'"),
    ],
)
def test_what_is_no_question_is_refused_with_file_and_line(tmp_path, sound, choices, fault):
    path = rows(tmp_path / "m.jsonl", {"audio": "a.wav", "caption": "a", "choices": choices})
    with pytest.raises(
        ValueError, match=r"m\.jsonl, line 1: `choices` must map tasks to at least two different"
    ) as error:
        read_manifest(path)
    assert fault in str(error.value)


def test_cuts_are_checked_too(tmp_path, sound):
    recording = Recording.from_file(sound)
    supervision = SupervisionSegment("a", recording.id, 0, 1.0, 0, "a dog")
    cut = MonoCut("a", 0, 1.0, 0, [supervision], None, recording, {"choices": {"order": ORDER[:1]}})
    CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
    with pytest.raises(ValueError, match=r"cuts\.jsonl, line 1: the custom field `choices` must map tasks to at least"):
        read_manifest(tmp_path / "cuts.jsonl")


def test_a_clip_checks_its_questions():
    with pytest.raises(ValueError, match="'order' has"):
        Clip("a", "a.wav", ["a"], choices={"order": ORDER[:1]})


def test_evaluation_batches_have_them_and_training_batches_do_not(tmp_path, sound):
    """A clip without questions has None."""
    about = {"audio": "a.wav", "caption": "a dog"}
    asked = {**about, "id": "asked", "choices": {"order": ORDER}}
    path = rows(tmp_path / "m.jsonl", {**about, "id": "plain"}, asked)
    data = AudioTextData(train=path, val=path, max_duration=30)

    def tokenize(texts):
        from slap.core.packed import Packed

        return Packed.pack([torch.zeros(1, dtype=torch.int64)] * len(texts))

    data.connect(8000, tokenize)
    (batch,) = data.val_dataloader()
    found = dict(zip(batch.ids, batch.choices["order"], strict=True))
    assert found == {"plain": None, "asked": ORDER}
    assert all(not batch.choices for batch in data.train_dataloader())
    assert data.choice_tasks == ["order"]
