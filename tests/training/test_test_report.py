"""The report of a test run: the figures as text, as files and as drawings."""

import json

import matplotlib.image
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from slap.core.packed import Packed
from slap.metrics.bootstrap import MetricValue
from slap.metrics.confusion import Confusion
from slap.metrics.plots import draw_confusion, draw_recall, draw_recall_by_duration
from slap.metrics.tables import metrics_markdown, metrics_text
from slap.testing.tiny import tiny_batch, tiny_model
from slap.training.callbacks.test_report import ReportWriter, Sample, captioned, median_ranks, notes, write
from slap.training.held_out import HeldOutMetrics
from slap.training.test_record import Provenance

RESULTS = {
    "t2a_R@1": MetricValue(62.5, 56.25, 68.75, 0.3125, 320),
    "t2a_R@10": MetricValue(99.96, 99.0, 100.0, 3.125, 320),
    "a2t_R@1": MetricValue(60.0, 50.0, 70.0, 0.3125, 300),
    "a2t_R@10": MetricValue(0.0, 0.0, 1.5, 3.125, 300),
    "zeroshot_order": MetricValue(75.0, 64.0, 86.0, 8.3333, 108),
}


NEW = Provenance({"path": None, "sha256": None, "step": 0})
"""What is tested without a checkpoint."""


def evaluated():
    evaluation = HeldOutMetrics()
    evaluation.results = dict(RESULTS)
    evaluation.confusions = {"order": Confusion(("ab", "ba"), torch.tensor([[3, 1], [0, 4]]))}
    evaluation.durations = [0.3, 0.4, 0.75, 3.0, 11.0, 2.0]
    evaluation.audio_ranks = torch.tensor([0, 5, 0, 0, 3, 1])
    return evaluation


def test_table():
    assert metrics_text(RESULTS).splitlines() == [
        "metric                         value     95 % interval  chance    best   count",
        "text to audio, R@1              62.5      56.2 to 68.8     0.3   100.0     320",
        "text to audio, R@10            100.0     99.0 to 100.0     3.1   100.0     320",
        "audio to text, R@1              60.0      50.0 to 70.0     0.3   100.0     300",
        "audio to text, R@10              0.0        0.0 to 1.5     3.1   100.0     300",
        "zero-shot, order                75.0      64.0 to 86.0     8.3   100.0     108",
    ]


def test_median_ranks_are_a_line():
    evaluation = evaluated()
    assert median_ranks(evaluation) == []
    evaluation.median_ranks = {
        "t2a_median_rank": MetricValue(3.0, 2.0, 4.5, 160.5, 320),
        "a2t_median_rank": MetricValue(2.0, 1.0, 3.0, 40.0, 300),
        "clotho/t2a_median_rank": MetricValue(1.0, 1.0, 1.0, 5.0, 20),
    }
    line = "Median rank, from 1: text to audio 3 (2 to 4.5; chance 160.5), audio to text 2 (1 to 3; chance 40)."
    assert median_ranks(evaluation) == [line]


def test_ties_between_candidates_are_said():
    evaluation = evaluated()
    evaluation.tied = {"order": (3, 4), "count": (0, 4)}
    (line,) = [line for line in notes(evaluation, NEW) if "nearer" in line or "as near" in line]
    assert line.startswith("Warning: order: 3 of 4 questions have a wrong candidate exactly as near")


def test_table_fits_a_terminal_and_shows_metrics_it_does_not_know():
    lines = metrics_text(
        {"zeroshot_speaker_number": MetricValue(100, 100, 100, 100, 100_000), "mAP": RESULTS["a2t_R@1"]}
    )
    assert {len(line) for line in lines.splitlines()} == {78}
    assert lines.splitlines()[2].startswith("mAP  ")
    wide = metrics_text({"zeroshot_" + "x" * 40: RESULTS["a2t_R@1"]}).splitlines()
    assert len(wide[0]) == len(wide[1])  # columns stay in line


def test_markdown():
    assert metrics_markdown({"t2a_R@1": RESULTS["t2a_R@1"]}).splitlines() == [
        "| metric | value | 95 % interval | chance | best | count |",
        "|---|---:|---:|---:|---:|---:|",
        "| text to audio, R@1 | 62.5 | 56.2 to 68.8 | 0.3 | 100.0 | 320 |",
    ]


def test_recall_bars_show_values_intervals_and_chance():
    (axes,) = draw_recall(RESULTS).axes
    assert [bar.get_height() for bar in axes.patches] == [62.5, 99.96, 60.0, 0.0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["R@1", "R@10"]
    assert {text.get_text() for text in axes.texts} == {"62", "100", "60", "0"}
    lines = [segment[:, 1].tolist() for lines in axes.collections for segment in lines.get_segments()]
    for result in (RESULTS["t2a_R@1"], RESULTS["a2t_R@10"]):
        assert [result.low, result.high] in lines
        assert [result.chance, result.chance] in lines
    with pytest.raises(ValueError, match="no recall to draw among \\['zeroshot_order'\\]"):
        draw_recall({"zeroshot_order": RESULTS["zeroshot_order"]})


def test_recall_by_duration_in_ranges_that_double():
    evaluation = evaluated()
    (axes,) = draw_recall_by_duration(evaluation.durations, evaluation.audio_ranks).axes
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["0.25 to 0.5\n2 clips", "0.5 to 1\n1 clip", "2 to 4\n2 clips", "8 to 16\n1 clip"]
    assert [bar.get_height() for bar in axes.patches] == [50.0, 100.0, 50.0, 0.0]
    (axes,) = draw_recall_by_duration(evaluation.durations, evaluation.audio_ranks, k=5).axes
    assert [bar.get_height() for bar in axes.patches] == [50.0, 100.0, 100.0, 100.0]


def test_confusions_are_shares_of_the_true_class():
    counts = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    (axes,) = draw_confusion(Confusion(("a", "b", "never"), counts), "title").axes
    assert np.asarray(axes.images[0].get_array()).tolist() == [[75, 25, 0], [0, 100, 0], [0, 0, 0]]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "never"]
    assert sorted(text.get_text() for text in axes.texts) == ["100", "25", "75"]
    many = Confusion(tuple(f"class {i}" for i in range(50)), torch.eye(50, dtype=torch.int64))
    assert not draw_confusion(many, "title").axes[0].texts


def test_files(tmp_path):
    write(tmp_path / "run", evaluated(), NEW, [Sample("clip-1", "a bell | a buzz", "a bell")])
    plots = ["confusion_order.png", "recall.png", "recall_by_duration.png"]
    found = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert found == [plots[0], "recall.png", "recall_by_duration.png", "report.md", "results.json"]
    for name in plots:
        pixels = matplotlib.image.imread(tmp_path / "run" / name)
        assert min(pixels.shape[:2]) > 200
        assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 50  # more than a blank sheet
    saved = json.loads((tmp_path / "run/results.json").read_text())["metrics"]
    assert {name: MetricValue(**result) for name, result in saved.items()} == RESULTS
    report = (tmp_path / "run/report.md").read_text()
    assert metrics_markdown(RESULTS) in report
    assert all(f"![{name}]({name})" in report for name in plots)
    assert "| clip-1 | a bell \\| a buzz | a bell |" in report


def test_no_samples_no_heading(tmp_path):
    write(tmp_path, evaluated(), NEW)
    assert "Captions" not in (tmp_path / "report.md").read_text()


class Writer(torch.nn.Module):
    """Stands for an objective that can write: it says how many seconds of audio it was given."""

    def generate(self, audio):
        seconds = [f"{size / 100:.2f} s" for size in audio.sizes]  # a token of the tiny encoder is 10 ms
        return Packed.pack([torch.tensor([256, *text.encode(), 257]) for text in seconds])


def test_captions_are_asked_of_whichever_objective_can_write():
    model = tiny_model().eval()
    batch = tiny_batch(model, seconds=(0.5, 0.1, 0.3), captions_per_clip=2)
    assert captioned(model, batch, 2) == []
    model.objectives["poet"] = Writer()
    samples = captioned(model, batch, 2)
    assert samples == [
        Sample(batch.ids[0], batch.captions[0], "0.50 s"),
        Sample(batch.ids[1], batch.captions[2], "0.10 s"),
    ]
    assert len(captioned(model, batch, 9)) == 3


class Judged(LightningModule):
    """Computes its figures where the model does: when the test epoch ends."""

    def __init__(self):
        super().__init__()
        self.evaluation = HeldOutMetrics()
        self.objectives = {}

    def test_step(self, batch, index):
        pass

    def on_test_epoch_end(self):
        self.evaluation = evaluated()


def test_callback_reports_after_a_test_run(tmp_path, capsys):
    trainer = Trainer(
        default_root_dir=tmp_path,
        callbacks=[ReportWriter()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    batches = [tiny_batch(tiny_model(), seed=seed) for seed in range(2)]
    trainer.test(Judged(), DataLoader(batches, batch_size=None), verbose=False)
    printed = capsys.readouterr().out
    assert metrics_text(RESULTS) in printed
    folder = tmp_path / "test" / "clips-none"
    assert f"More in {folder / 'report.md'}" in printed
    assert "The model is untrained: no checkpoint was loaded." in printed
    assert (folder / "recall.png").is_file()
    assert metrics_markdown(RESULTS) in (folder / "report.md").read_text()
