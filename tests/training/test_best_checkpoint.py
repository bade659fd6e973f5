"""`best.ckpt` is chosen by finite metrics of finite weights: a NaN of the first validation used to be the best."""

import pytest
import torch
from lightning.pytorch import Callback

import toy_recipe as recipe


class Spoil(Callback):
    """Logs a metric of its own, and may spoil the weights before a validation."""

    def __init__(self, values, weights=()):
        self.values, self.weights, self.seen = values, weights, 0

    def on_validation_epoch_end(self, trainer, pl_module):
        if trainer.sanity_checking:
            return
        if self.seen in self.weights:
            pl_module.audio.embed.bias.data[0] = float("nan")
        pl_module.log("val/own", self.values[self.seen])
        self.seen += 1


def fit(out, callback, mode="max"):
    options = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "accelerator": "cpu",
    }
    trainer = recipe.trainer(
        str(out),
        6,
        callbacks=[callback],
        monitor="val/own",
        mode=mode,
        val_check_interval=2,
        **options,
    )
    trainer.fit(recipe.model(), datamodule=recipe.data(batches=6))
    return trainer.checkpoint_callback


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_metric_that_is_not_finite_is_never_the_best(tmp_path, mode, caplog):
    values = [float("nan"), 1.0, float("inf") if mode == "max" else float("-inf")]
    best = fit(tmp_path, Spoil(values), mode)
    assert float(best.best_model_score) == 1.0
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 4
    assert "step 2 is not the best: val/own is nan" in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_not_finite_are_never_the_best(tmp_path, caplog):
    fit(tmp_path, Spoil([1.0, 2.0, 3.0], weights=(2,)))
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 4
    assert "step 6 is not the best: weights of the model are not finite" in caplog.text
    assert (
        "clips have an output of the model that is not finite" not in caplog.text
    )  # it was sound when it was validated
