"""`slap.evaluate` in Python: data by name, by folder and by file, a loaded model, and results as a mapping and rows."""

import sys

import pytest

import slap
import tree_speech as speech
import tree_tools as tools
from slap.core.errors import MissingDependencyError
from slap.evaluation.locate import Sources, sources_of
from slap.evaluation.results import EvaluationResults
from slap.metrics.bootstrap import MetricValue
from slap.testing.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, a manifest, and a corpus in its official layout below `corpora`."""
    folder = tmp_path_factory.mktemp("python")
    tiny_checkpoint(folder / "model.ckpt")
    for number in range(6):
        tools.tone(folder / f"{number}.wav", 0.2 + 0.1 * number, pitch=200 + 100 * number)
    rows = [(f"{number}.wav", f"sound {number}", "low" if number < 3 else "high") for number in range(6)]
    tools.table(folder / "mine.csv", ["audio", "caption", "label"], rows)
    speech.cremad(folder / "corpora" / "CREMA-D")
    return folder


def test_results_are_a_mapping_rows_and_a_table(folder):
    model = slap.load(folder / "model.ckpt")
    results = slap.evaluate(model, ["retrieval/mine", "zeroshot/mine"], {"mine": folder / "mine.csv"})
    assert isinstance(results["retrieval/mine/t2a_R@1"], MetricValue)
    assert results.metrics == dict(results)
    assert len(results.to_dict()) == len(results) == 12
    first = results.to_dict()[0]
    assert list(first) == ["task", "data", "metric", "value", "low", "high", "chance", "count", "best", "over"]
    assert (first["task"], first["data"], first["metric"]) == ("retrieval", "mine", "t2a_R@1")
    assert results["zeroshot/mine/label/accuracy"].chance == 50.0
    lines = str(results).splitlines()
    assert lines[0].split()[:3] == ["task", "data", "set"]
    assert any(line.startswith("zeroshot   mine/label  accuracy") for line in lines)
    assert results.record["model"]["path"] == "in memory"
    assert not list(folder.glob("*.json"))


def test_pandas_takes_the_results(monkeypatch):
    metric = {"value": 50.0, "low": 40.0, "high": 60.0, "chance": 10.0, "count": 20, "best": None, "over": None}
    record = {"results": [{"task": "retrieval", "dataset": "mine", "metrics": {"t2a_R@1": metric, "t2a_R@5": metric}}]}
    results = EvaluationResults(record)
    frame = results.to_pandas()
    assert list(frame.columns) == ["task", "data", "metric", *metric]
    assert list(frame["metric"]) == ["t2a_R@1", "t2a_R@5"]
    assert frame.set_index(["task", "data", "metric"]).loc[("retrieval", "mine", "t2a_R@5"), "high"] == 60.0
    assert len(EvaluationResults({"results": []}).to_pandas()) == 0
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        results.to_pandas()


def test_folders_files_and_names(folder):
    ways = [folder / "corpora", [folder / "corpora", folder / "mine.csv"], {"cremad": folder / "corpora" / "CREMA-D"}]
    found = [slap.evaluate(folder / "model.ckpt", ["zeroshot/cremad"], data) for data in ways]
    assert dict(found[0]) == dict(found[1]) == dict(found[2])
    assert sources_of(ways[1]) == Sources([ways[0]], {}, {"mine": {"test": folder / "mine.csv"}})
    parts = {"train": folder / "mine.csv", "test": folder / "mine.csv"}
    assert sources_of({"own": parts}).manifests == {"own": parts}


def test_what_cannot_be_run_is_listed_and_stops_no_other(folder):
    results = slap.evaluate(folder / "model.ckpt", ["retrieval/mine", "zeroshot/esc50"], folder / "mine.csv")
    assert {name.partition("/")[0] for name in results} == {"retrieval"}
    assert [row["row"] for row in results.failed] == ["zeroshot/esc50"]
    assert "zeroshot/esc50: failed: there is no folder esc50" in str(results)


def test_out_is_what_the_command_writes(folder, tmp_path):
    results = slap.evaluate(
        folder / "model.ckpt", ["retrieval/mine"], folder / "mine.csv", out=tmp_path / "r.json", plots=True
    )
    assert (tmp_path / "r.md").is_file()
    assert (tmp_path / results.record["results"][0]["plot_files"][0]).is_file()
    again = slap.evaluate(
        folder / "model.ckpt", ["retrieval/mine"], folder / "mine.csv", out=tmp_path / "r.json", plots=True
    )
    assert again.record == results.record


@pytest.mark.parametrize(
    ("tasks", "data", "options", "message"),
    [
        (["retrieval/mine"], {"mine": "gone.csv"}, {}, "there is no gone.csv for mine"),
        (["retrieval/mine"], {"mine": {"train": "mine.csv"}}, {}, "mine has no clips to test on"),
        (["retrieval/mine"], {"mine": {"tset": "mine.csv"}}, {}, r"the parts \['tset'\]; valid are train, val, test"),
        (["retrieval/mine"], ["mine.csv", "corpora/../mine.csv"], {}, "two manifests have the same name"),
        (["retreival/mine"], "mine.csv", {}, "there is no task 'retreival'; did you mean 'retrieval'"),
        (["retrieval/mine"], "mine.csv", {"options": {"retrieval": {"x": 1}}}, "retrieval has no option 'x'"),
        (["zeroshot/esc50"], "mine.csv", {}, "nothing was evaluated: zeroshot/esc50: there is no folder esc50"),
    ],
)
def test_mistakes(folder, monkeypatch, tasks, data, options, message):
    monkeypatch.chdir(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        slap.evaluate("model.ckpt", tasks, data, **options)


def test_unknown_ways_to_find_training_clips_are_refused(folder):
    with pytest.raises(ValueError, match="overlap_by has fingerprints; clips are compared by id, origin"):
        slap.evaluate(folder / "model.ckpt", ["retrieval/mine"], folder / "mine.csv", overlap_by=["fingerprints"])
