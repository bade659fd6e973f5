"""SLAP's models by the mteb library's own interface: tasks of its abstract classes on a few sounds."""

import json

import pytest
import torch

import slap
import tree_tools as tools
from slap.cli.main import main
from slap.core.errors import UserError

mteb = pytest.importorskip("mteb", reason="needs the extra mteb")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::mteb"),
    pytest.mark.filterwarnings("ignore:::sklearn"),
]

from datasets import Audio, Dataset, DatasetDict  # noqa: E402
from mteb.abstasks.classification import AbsTaskClassification  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification  # noqa: E402

from slap.evaluation.mteb_model import MtebModel  # noqa: E402

PITCHES = (200, 260, 340, 900, 1200, 1600)


def metadata(name, kind, score, category, modalities):
    return TaskMetadata(
        name=name,
        type=kind,
        main_score=score,
        category=category,
        modalities=modalities,
        description="A few tones.",
        reference="https://example.org",
        dataset={"path": "none", "revision": "none"},
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=("2026-01-01", "2026-01-02"),
        domains=[],
        task_subtypes=[],
        license="cc0-1.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
    )


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    return [str(tools.tone(folder / f"{pitch}.wav", 0.4, pitch=pitch) or folder / f"{pitch}.wav") for pitch in PITCHES]


@pytest.fixture(scope="module")
def model():
    return slap.load("starter", device="cpu")


@pytest.fixture
def tasks(sounds):
    labels = [int(pitch > 500) for pitch in PITCHES]
    data = Dataset.from_dict({"audio": sounds, "label": labels}).cast_column("audio", Audio())

    class Tones(AbsTaskClassification):
        metadata = metadata_of("Tones", "AudioClassification", "accuracy", "a2c", ["audio"])
        input_column_name, samples_per_label, n_experiments = "audio", 2, 2

        def load_data(self, **options):
            self.dataset, self.data_loaded = DatasetDict(train=data, test=data), True

    class TonesZeroshot(AbsTaskZeroShotClassification):
        metadata = metadata_of("TonesZeroshot", "AudioZeroshotClassification", "accuracy", "a2t", ["audio", "text"])
        input_column_name, label_column_name = "audio", "label"

        def load_data(self, **options):
            self.dataset, self.data_loaded = DatasetDict(test=data), True

        def get_candidate_labels(self):
            return ["a low tone", "a high tone"]

    class TonesT2A(AbsTaskRetrieval):
        metadata = metadata_of("TonesT2A", "Any2AnyRetrieval", "ndcg_at_10", "t2a", ["audio", "text"])

        def load_data(self, **options):
            names = [str(pitch) for pitch in PITCHES]
            corpus = {"id": names, "audio": sounds, "modality": ["audio"] * len(names)}
            queries = {
                "id": names,
                "text": [f"a tone of {name} Hz" for name in names],
                "modality": ["text"] * len(names),
            }
            self.corpus = DatasetDict(test=Dataset.from_dict(corpus).cast_column("audio", Audio()))
            self.queries = DatasetDict(test=Dataset.from_dict(queries))
            self.relevant_docs = {"test": {name: {name: 1} for name in names}}
            self.data_loaded = True

    return [Tones(), TonesZeroshot(), TonesT2A()]


metadata_of = metadata


def test_scores_are_those_of_the_models_own_embeddings(model, sounds, tasks):
    results = mteb.evaluate(MtebModel(model), tasks, cache=None, co2_tracker=False)
    score = {result.task_name: result.get_score() for result in results.task_results}
    found = model.embed_audio(sounds)
    zero = (found @ model.embed_text(["a low tone", "a high tone"]).T).argmax(1)
    assert score["TonesZeroshot"] == pytest.approx(float((zero == torch.tensor([0, 0, 0, 1, 1, 1])).double().mean()))
    cosines = model.embed_text([f"a tone of {pitch} Hz" for pitch in PITCHES]) @ found.T
    ranks = (cosines > cosines.diagonal()[:, None]).sum(1)
    assert score["TonesT2A"] == pytest.approx(float((1 / (ranks + 2).double().log2()).mean()), abs=1e-4)
    assert 0 <= score["Tones"] <= 1


def test_the_command_runs_tasks_once(tmp_path, monkeypatch, tasks, capsys):
    monkeypatch.setattr(mteb, "get_tasks", lambda names: [task for task in tasks if task.metadata.name in names])
    command = [
        "mteb",
        "starter",
        "--device",
        "cpu",
        "--tasks",
        "TonesZeroshot",
        "--name",
        "me/mine",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    line = capsys.readouterr().out.strip()
    assert line.split()[:2] == ["TonesZeroshot", "accuracy"]
    (kept,) = tmp_path.rglob("TonesZeroshot.json")
    assert "me__mine" in kept.parts
    assert json.loads(kept.read_text())["task_name"] == "TonesZeroshot"


def test_names_that_mteb_does_not_know_are_refused(model, capsys):
    assert main(["mteb", "starter", "--device", "cpu", "--tasks", "Tonnes", "--out", "results"]) == 2
    assert "no such task or benchmark" in capsys.readouterr().err
    with pytest.raises(UserError, match="organization/name"):
        MtebModel(model, "mine")


def test_items_that_are_no_sounds_and_lower_precisions_are_refused(model, tasks):
    data = Dataset.from_dict({"image": [1]})
    loader = torch.utils.data.DataLoader(data)
    options = {"task_metadata": tasks[0].metadata, "hf_split": "test", "hf_subset": "default"}
    with pytest.raises(UserError, match="has the columns image"):
        MtebModel(model).encode(loader, **options)
    with pytest.raises(UserError, match="precision='int8'"):
        MtebModel(model).encode(loader, precision="int8", **options)
