"""Questions with their own candidates in training: answered by validation, a monitor, in the tables of a test."""

import json

import pytest

from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.recipes import base
from slap.testing.tiny import tiny_model

ORDER = ["a dog barks, then rain falls", "rain falls, then a dog barks"]
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


@pytest.fixture
def asked(wav, tmp_path):
    """Six clips; those in the first batches have no question."""
    files = [wav(f"c{i}.wav", seconds=0.2 + 0.1 * i, seed=i) for i in range(6)]
    choices = [{"order": ORDER if i % 2 else ORDER[::-1]} if i > 3 else {} for i in range(6)]
    clips = [
        Clip(file.stem, file, [f"sound {i}"], choices=own)
        for i, (file, own) in enumerate(zip(files, choices, strict=True))
    ]
    return write_manifest(tmp_path / "asked.jsonl", clips)


def fit(asked, out, monitor):
    trainer = base.trainer(str(out), 2, val_check_interval=1, monitor=monitor, **QUIET)
    data = AudioTextData(train=asked, val=asked, test=asked, max_duration=0.7, max_clip=0.5)
    trainer.fit(tiny_model(), datamodule=data)
    return trainer, data


def test_validation_answers_them_and_they_can_select_a_checkpoint(asked, tmp_path, fast_reports, capsys):
    trainer, data = fit(asked, tmp_path / "run", "val/choice_order")
    found = trainer.callback_metrics["val/choice_order"]
    model = trainer.lightning_module
    assert found == model.evaluation.results["choice_order"].value
    assert (model.evaluation.results["choice_order"].count, model.evaluation.results["choice_order"].chance) == (2, 50)
    assert trainer.checkpoint_callback.best_model_score == found
    trainer.test(model, datamodule=data, ckpt_path=trainer.checkpoint_callback.best_model_path)
    (report,) = (tmp_path / "run" / "test").rglob("results.json")
    assert json.loads(report.read_text())["metrics"]["choice_order"]["count"] == 2
    assert "choice, order" in capsys.readouterr().out


def test_a_kind_of_question_that_no_clip_has_is_no_monitor(asked, tmp_path):
    with pytest.raises(ValueError, match="monitor is 'val/choice_ordre', which no validation of this run logs"):
        fit(asked, tmp_path / "run", "val/choice_ordre")
