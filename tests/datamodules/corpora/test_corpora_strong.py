"""Corpora with strong labels: events of a clip that stand apart, none of no duration, the folders of each release."""

import json
import shutil

import pytest

import tree_strong as tree
import tree_tools as tools
from slap.datamodules.corpora import DESED, AudioSetStrong
from slap.datamodules.manifests.clip import ManifestError


def rows_of(cut):
    return [tuple(one.values()) for one in cut.custom["segments"]]


def test_audioset_strong(tmp_path):
    tree.audioset_strong(tmp_path / "audioset")
    made = tools.prepare("audioset_strong", tmp_path / "audioset", tmp_path / "out")
    assert tools.counts(made.report["train"]) == {"listed": 3, "found": 2, "missing": 1}
    assert tools.counts(made.report["eval"]) == {"listed": 1, "found": 1}
    whole, short = made.clips["train"]["b0RFKhbpFJA_30000"], made.clips["train"]["-_short-0_1_0"]
    assert rows_of(whole) == [(0.0, 10.0, "rain"), (4.753, 5.72, "dog"), (0.0, 2.5, "male speech, man speaking")]
    assert whole.custom["tags"] == {"audioset_strong": ["rain", "male speech, man speaking", "dog"]}
    assert tools.captions(whole) == [("the sound of rain, male speech, man speaking and dog", "template")]
    assert whole.custom["origin"] == {"youtube": "b0RFKhbpFJA"}
    assert short.custom["origin"] == {"youtube": "-_short-0_1"}
    assert rows_of(short) == [(0.05, 0.1, "dog"), (0.1, 0.2, "rain")]  # as long as the file
    assert rows_of(made.clips["eval"]["s9d-2nhuJCQ_30000"]) == [(2.627, 7.237, "dog")]
    assert AudioSetStrong(tmp_path / "audioset").classes()["audioset_strong"][1] == "male speech, man speaking"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b0RFKhbpFJA_30000\t0.0\t1.0\t/m/none", "the label '/m/none', not in mid_to_display_name.tsv"),
        ("b0RFKhbpFJA_30000\t0.0\tend\t/m/0bt9lr", "no number of seconds"),
        ("b0RFKhbpFJA_30000\t3.0\t1.0\t/m/0bt9lr", "an event from 3.0 to 1.0 s"),
        ("b0RFKhbpFJA\t0.0\t1.0\t/m/0bt9lr", "no YouTube id with a begin in milliseconds"),
    ],
)
def test_a_list_in_another_form_is_refused(tmp_path, row, message):
    tree.audioset_strong(tmp_path)
    with (tmp_path / "audioset_eval_strong.tsv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(ManifestError, match=message):
        list(AudioSetStrong(tmp_path).clips("eval"))


def test_desed(tmp_path):
    tree.desed(tmp_path / "desed" / "dataset")
    made = tools.prepare("desed", tmp_path / "desed", tmp_path / "out")
    assert list(made.report) == ["weak", "synthetic", "validation", "public"]
    assert tools.counts(made.report["weak"]) == {"official": 1_578, "listed": 2, "found": 1, "missing": 1}
    assert tools.counts(made.report["validation"]) == {"official": 1_168, "listed": 2, "found": 2}
    assert tools.counts(made.report["public"]) == {"official": 692, "listed": 1, "found": 1}
    weak = made.clips["weak"]["weak/Y-_T5NIAxUrA_30.000_40.000"]
    assert "segments" not in weak.custom
    assert weak.custom["tags"] == {"desed": ["alarm bell ringing", "speech"]}
    assert weak.custom["origin"] == {"youtube": "-_T5NIAxUrA"}
    first, second = made.clips["synthetic"].values()
    assert rows_of(first) == [(2.0, 10.0, "blender"), (1.5, 3.25, "electric shaver toothbrush")]
    assert tools.captions(first) == [("the sound of electric shaver toothbrush and blender", "template")]
    assert (rows_of(second), second.custom.get("origin")) == ([(0.0, 1.0, "cat")], None)
    quiet = made.clips["validation"]["validation/Y-0SdAVK79lg_1.000_11.000"]
    assert rows_of(quiet) == []
    assert tools.captions(quiet) == [("the sound of a home", "template")]
    public = made.clips["public"]["public/1Ro0FgMWTUE_120_130"]
    assert rows_of(public) == [(0.0, 2.081, "speech"), (3.8, 10.0, "frying")]
    assert public.custom["origin"] == {"youtube": "1Ro0FgMWTUE"}
    assert len(DESED(tmp_path / "desed").classes()["desed"]) == 10


def test_desed_of_2019_has_its_validation_audio_one_folder_above(tmp_path):
    tree.desed(tmp_path)
    audio, lists = tmp_path / "audio", tmp_path / "metadata"
    for file in (audio / "validation" / "validation").iterdir():
        shutil.move(file, audio / "validation")
    (audio / "validation" / "validation").rmdir()
    shutil.move(lists / "train" / "synthetic21_train" / "soundscapes.tsv", lists / "train" / "synthetic.tsv")
    shutil.move(audio / "train" / "synthetic21_train" / "soundscapes", audio / "train" / "synthetic")
    corpus = DESED(tmp_path)
    for split in ("validation", "synthetic"):
        assert all(clip.audio.is_file() for clip in corpus.clips(split))


def test_tables_of_your_own_with_times_of_the_file_are_reported(tmp_path):
    tools.tone(tmp_path / "in" / "a.wav", seconds=1.0)
    rows = [("right", 0.1), ("wrong", 0.6)]
    lines = [
        {
            "id": name,
            "audio": "a.wav",
            "caption": name,
            "start": 0.5,
            "duration": 0.4 + 0.01 * i,
            "segments": [{"start": start, "end": start + 0.2, "text": "dog"}],
        }
        for i, (name, start) in enumerate(rows)
    ]
    (tmp_path / "in" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = tools.prepare("jsonl", tmp_path / "in", tmp_path / "out")
    assert tools.counts(made.report["train"]) == {"listed": 2, "found": 1, "outside": 1}
    (cut,) = made.clips["train"].values()
    assert rows_of(cut) == [(0.1, pytest.approx(0.3), "dog")]
