"""Probes as tasks of `slap evaluate`, from corpora in their official layouts, against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import slap
import tree_tuning as trees
from slap.cli.main import main
from slap.evaluation import LinearProbe, NeighborProbe
from slap.evaluation.probes.protocol import LinearProbing
from slap.testing.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """What the probes say of three corpora: with folds, with a validation split, with several labels a clip."""
    folder = tmp_path_factory.mktemp("probed")
    tiny_checkpoint(folder / "model.ckpt")
    trees.esc50(folder / "data" / "esc50", folds=3)
    trees.speechcommands(folder / "data" / "speechcommands")
    trees.audioset(folder / "data" / "audioset")
    tasks = [
        f"{task}/{name}" for task in ("linear_probe", "knn_probe") for name in ("esc50", "speechcommands", "audioset")
    ]
    out = folder / "out.json"
    options = ["--tasks", *tasks, "--data", str(folder / "data"), "--workers", "0"]
    assert main(["evaluate", str(folder / "model.ckpt"), *options, "--out", str(out)]) == 0
    results = {f"{r['task']}/{r['dataset']}": r for r in json.loads(out.read_text())["results"]}
    return folder, results


@pytest.mark.slow
def test_every_row_is_there_with_what_it_depends_on(probed):
    _, results = probed
    assert len(results) == 6
    folds, split, several = (results[f"linear_probe/{name}"] for name in ("esc50", "speechcommands", "audioset"))
    assert set(folds["metrics"]) == {"accuracy", "accuracy_pooled"}
    assert set(folds["settings"]["inverse_strength_of_the_regularization"]) == {"1", "2", "3"}
    assert folds["counts"]["evaluated"] == 18
    assert set(split["metrics"]) == {"accuracy"}
    assert (split["settings"]["chosen_on"], split["settings"]["learned_from"]) == ("validation", 32)
    assert split["counts"]["evaluated"] == 8
    assert set(several["metrics"]) == {"mAP"}
    assert several["counts"]["evaluated"] == 6
    assert results["knn_probe/audioset"]["settings"]["neighbours"] in (1, 3, 5, 10, 20, 50, 200)


@pytest.mark.slow
def test_cross_validation_equals_scikit_learn_on_the_embeddings(probed):
    folder, results = probed
    result = results["linear_probe/esc50"]
    files = sorted((folder / "data" / "esc50" / "audio").glob("*.wav"))
    x = slap.load(folder / "model.ckpt").embed_audio(files).double().numpy()
    x = x * x.shape[1] ** 0.5
    fold = np.array([int(path.stem.split("-")[0]) for path in files])
    y = np.array([int(path.stem.split("-")[-1]) for path in files])
    values = []
    for number, strength in result["settings"]["inverse_strength_of_the_regularization"].items():
        inside = fold != int(number)
        fit = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(x[inside], y[inside])
        values.append(100 * fit.score(x[~inside], y[~inside]))
    assert result["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(values))
    assert set(result["settings"]["chosen_out_of"]) == set(LinearProbing.settings)


@pytest.mark.parametrize(("task", "options"), [(LinearProbe, {"strengths": ()}), (NeighborProbe, {"neighbours": (0,)})])
def test_settings_out_of_range(task, options):
    with pytest.raises(ValueError, match="one or more numbers above 0"):
        task(**options)
