"""The task `frames`: a model that hears everything has all, one that guesses has chance, and manifests say when."""

import json
import sys
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.functional import normalize

import slap
from slap.cli.main import main
from slap.core.calibration import Calibration
from slap.core.registry import plugins
from slap.datamodules import Clip, write_manifest
from slap.evaluation.plan import rows_of
from slap.evaluation.tasks.frames import FrameSimilarity
from slap.inference.frames import frame_count
from slap.inference.model import Model
from slap.testing.tiny import tiny_checkpoint

RATE, WIDTH = 8_000, 800
evaluated = partial(slap.evaluate, allow_collapsed=True)  # the models know a few words alone
CLASSES = ["a dog barks", "rain", "a siren"]


FEW = {"frames": {"psds_samples": 4}}


class Oracle:
    """Hears classes from the value of samples: 0.1 for the first, 0.2 for the second, 0.4 for the third, or a sum."""

    sample_rate, max_seconds, embedding_dim = RATE, 4.0, len(CLASSES) + 1
    name, calibration, frame_samples = "oracle", None, WIDTH
    frame_calibration = Calibration("sigmoid", 50.0, -20.0)  # one half at a cosine of 0.4

    def encode_text(self, texts):
        return torch.stack([torch.eye(len(CLASSES) + 1)[CLASSES.index(text)] for text in texts])

    def encode_audio(self, clips):
        return torch.stack([self.encode_frames(clip, WIDTH).mean(0) for clip in clips])

    def encode_frames(self, clip, hop):
        count = frame_count(len(clip), hop, WIDTH)
        values = torch.stack([clip[i * hop + WIDTH // 2 : i * hop + WIDTH // 2 + 1].mean() for i in range(count)])
        code = (values * 10).round().long()
        heard = torch.stack([(code >> k) & 1 for k in range(len(CLASSES))] + [torch.ones_like(code) * 0.1], 1)
        return normalize(heard.float(), dim=1)


class Guesser(Oracle):
    """Hears anything anywhere."""

    name = "guesser"

    def encode_frames(self, clip, hop):
        rng = torch.Generator().manual_seed(len(clip))
        return normalize(torch.randn(frame_count(len(clip), hop, WIDTH), 4, generator=rng), dim=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """m.jsonl: twelve clips of 6 s and more, longer than a window, two of each recording, and one without segments."""
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    clips = []
    for i in range(12):
        frames = 60 + i
        codes, segments = np.zeros(frames, dtype=int), []
        for k, name in enumerate(CLASSES):
            start = int(rng.integers(0, 40))
            stop = start + int(rng.integers(3, 20))
            codes[start:stop] += 1 << k
            segments.append({"start": start / 10, "end": stop / 10, "text": name})
        wave = np.repeat(codes / 10, WIDTH)
        soundfile.write(folder / f"{i}.wav", wave, RATE, subtype="FLOAT")
        origin = {"freesound": str(i // 2)}
        clips.append(Clip(f"c{i}", folder / f"{i}.wav", ["a scene"], origin=origin, segments=segments))
    clips.append(Clip("c99", folder / "0.wav", ["a scene"]))
    write_manifest(folder / "m.jsonl", clips)
    return folder


def test_a_model_that_hears_everything_has_all(folder):
    found = evaluated(Model(Oracle()), ["frames/mine"], {"mine": folder / "m.jsonl"}, options=FEW)
    assert found["frames/mine/segment_F1"].value == 100
    assert found["frames/mine/frame_AUROC"].value == 100
    assert found["frames/mine/segment_F1"].over == "origins"
    (result,) = found.record["results"]
    assert result["counts"]["evaluated"] == 12
    assert result["counts"]["lost"] == {"without segments": 1}
    assert [row["class"] for row in result["per_class"]] == sorted(CLASSES)
    assert all(row["segment_F1"] == 100 and row["clips"] == 12 for row in result["per_class"])
    assert result["settings"]["hop_seconds"] == 0.1
    assert result["settings"]["frames"] == "of the objective frame_alignment"


def test_psds_of_both(folder):
    pytest.importorskip("sed_scores_eval", reason="needs the extra sed", exc_type=ImportError)
    data = {"mine": folder / "m.jsonl"}
    perfect, guess = (evaluated(Model(kind()), ["frames/mine"], data, options=FEW) for kind in (Oracle, Guesser))
    for name in ("PSDS1", "PSDS2"):
        assert perfect[f"frames/mine/{name}"].value == pytest.approx(100)
        assert guess[f"frames/mine/{name}"].value < 30


def test_a_model_that_guesses_has_chance(folder):
    options = {"frames": {"psds": False}}
    found = evaluated(Model(Guesser()), ["frames/mine"], {"mine": folder / "m.jsonl"}, options=options)
    area = found["frames/mine/frame_AUROC"]
    assert area.low < 50 < area.high
    assert area.value == pytest.approx(50, abs=6)
    assert "frames/mine/PSDS1" not in found


def test_without_the_library_psds_is_missing_and_the_reason_is_said(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sed_scores_eval", None)
    found = evaluated(Model(Oracle()), ["frames/mine"], {"mine": folder / "m.jsonl"})
    assert "frames/mine/PSDS1" not in found
    (warning,) = found.record["results"][0]["warnings"]
    assert warning.startswith("without PSDS1, PSDS2: PSDS needs sed_scores_eval: pip install 'slap-audio[sed]'")


def test_the_command_with_a_checkpoint(folder, tmp_path, capsys):
    tiny_checkpoint(tmp_path / "model.ckpt", {"contrastive": 1.0, "frame_alignment": 1.0}, max_seconds=3.0)
    arguments = ["--tasks", "frames/mine", "--manifest", f"mine={folder / 'm.jsonl'}", "--set", "frames.psds=false"]
    out = tmp_path / "r.json"
    assert main(["evaluate", str(tmp_path / "model.ckpt"), *arguments, "--out", str(out)]) == 0
    (result,) = json.loads(out.read_text())["results"]
    assert set(result["metrics"]) == {"segment_F1", "frame_AUROC"}
    assert result["settings"]["hop_seconds"] == 0.16
    assert "frame_AUROC" in capsys.readouterr().out
    assert "AUROC" in out.with_suffix(".md").read_text()


def test_other_segments_are_another_result(folder, tmp_path):
    rows = [json.loads(line) for line in (folder / "m.jsonl").read_text().splitlines()]
    path = tmp_path / "mine.jsonl"
    options = {"frames": {"psds": False}}
    found = []
    for _ in range(2):
        for row in rows:
            row["audio"] = str(folder / row["audio"].rpartition("/")[2])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = evaluated(Model(Oracle()), ["frames/mine"], {"mine": path}, options=options, out=tmp_path / "r.json")
        found.append(made["frames/mine/segment_F1"].value)
        rows[0]["segments"] = rows[0]["segments"][:1]
    assert found[0] == 100
    assert found[1] < 100  # not what was kept for the former segments


def test_manifests_without_segments_and_models_without_frames(folder, tmp_path):
    write_manifest(tmp_path / "none.jsonl", [Clip("a", folder / "0.wav", ["a"])])
    with pytest.raises(ValueError, match="has no clip with `segments`"):
        evaluated(Model(Oracle()), ["frames/none"], {"none": tmp_path / "none.jsonl"})
    with pytest.raises(ValueError, match="write TASK/mine without /label"):
        evaluated(Model(Oracle()), ["frames/mine/label"], {"mine": folder / "m.jsonl"})

    class Blind(Oracle):
        frame_samples = property()

    blind = Blind()
    with pytest.raises(ValueError, match="has no dense features"):
        evaluated(Model(blind), ["frames/mine"], {"mine": folder / "m.jsonl"})


def test_benchmarks_with_strong_labels_have_the_task():
    tasks = plugins("task")
    assert [str(row) for row in rows_of(["desed"], tasks)] == ["frames/desed"]
    assert [str(row) for row in rows_of(["frames"], tasks)] == ["frames/desed", "frames/audioset-strong"]
    with pytest.raises(ValueError, match="esc50 has labels, and the task needs segments"):
        rows_of(["frames/esc50"], tasks)


@pytest.mark.parametrize(("options", "message"), [({"template": "x"}, "{label}"), ({"psds_samples": 1}, "at least 2")])
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        FrameSimilarity(**options)
