"""Questions with their own candidates as a task: on a synthetic oracle, and through the command on a manifest."""

import json

import pytest
import torch

from slap.core.progress import silent
from slap.evaluation import Choice, EvalClip, EvalSet, EvaluatedModel
from table_model import table_model

FIRST, THEN = "a dog barks, then rain", "rain, then a dog barks"
TEXTS = {FIRST: [1, 0, 0], THEN: [0, 1, 0], "one": [1, 0, 0], "two": [0, 1, 0], "three": [0, 0, 1]}


def clip(name, row, **choices):
    return EvalClip(name, torch.eye(3)[row], choices=choices)


def ask(*clips, **texts):
    model = table_model(3, {**TEXTS, **texts})
    return Choice().run(EvaluatedModel(model), EvalSet("mine", "test", clips), silent)


def test_each_kind_of_question_is_a_metric():
    result = ask(
        clip("a", 0, order=[FIRST, THEN], count=["one", "two", "three"]),
        clip("b", 1, order=[THEN, FIRST]),
        clip("c", 1, order=[FIRST, THEN], count=["two", "three"]),
    )
    values = {name: (metric.value, metric.count) for name, metric in result.metrics.items()}
    assert values == {"count": (100, 2), "order": (pytest.approx(200 / 3), 3)}
    assert result.metrics["count"].chance == pytest.approx(100 * (1 / 3 + 1 / 2) / 2)
    assert result.settings["candidates"] == {"count": "2 to 3", "order": "2"}
    assert result.settings["texts"] == 5
    assert set(result.definitions) == {"count", "order"}
    assert result.warnings == []


def test_ties_and_candidates_without_an_embedding_are_named():
    clips = clip("a", 0, order=[FIRST, "same"]), clip("b", 0, order=[FIRST, "nan"])
    result = ask(*clips, same=[1, 0, 0], nan=[float("nan")] * 3)
    assert result.metrics["order"].value == 0
    assert result.warnings == [
        "order: 1 of 2 questions have a wrong candidate exactly as near as the right one, which counts as not right",
        "the model gave no finite, nonzero output for 1 candidates, which make an answer wrong: nan",
    ]


def test_without_questions_there_is_nothing_to_answer():
    with pytest.raises(ValueError, match="no clip of mine has choices and audio that can be used"):
        ask(clip("a", 0))


def test_the_command_asks_all_kinds_or_one(tiny_checkpoint, tmp_path, capsys):
    import soundfile

    from slap.cli.main import main

    rows = []
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * torch.randn(8000).numpy(), 16000)
        choices = {"order": [FIRST, THEN], **({"count": ["one", "two"]} if i < 3 else {})}
        rows.append({"audio": f"{i}.wav", "choices": choices})
    rows[3]["caption"] = "a caption of one clip alone"
    manifest = tmp_path / "mine.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.json"
    command = ["evaluate", str(tiny_checkpoint), "--manifest", f"mine={manifest}", "--out", str(out), "--no-plots"]
    assert main([*command, "--tasks", "choice/mine", "choice/mine/count"]) == 0
    every, one = json.loads(out.read_text())["results"]
    assert {name: metric["count"] for name, metric in every["metrics"].items()} == {"count": 3, "order": 4}
    assert one["metrics"] == {"count": every["metrics"]["count"]}
    assert one["counts"]["lost"] == {"without choices": 1}
    assert "choice" in capsys.readouterr().out
