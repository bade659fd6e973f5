"""Precisions of the weights: training, validation and checkpoints work in each that Lightning offers."""

import pytest
import torch

import toy_recipe as recipe

pytestmark = pytest.mark.usefixtures("fast_reports")
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0, "accelerator": "cpu"}


@pytest.mark.parametrize(
    ("precision", "dtype"), [("64-true", torch.float64), ("16-true", torch.float16), ("bf16-true", torch.bfloat16)]
)
@pytest.mark.parametrize("audio", [None, {"name": "transformer", "size": "tiny"}], ids=["tiny", "transformer"])
def test_a_run_in_the_precision_of_its_weights(audio, precision, dtype, tmp_path):
    torch.manual_seed(0)
    made = recipe.trainer(str(tmp_path), max_steps=1, precision=precision, **QUIET)
    made.fit(recipe.model(audio), datamodule=recipe.data(batches=1))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert state["audio_pool.query"].dtype == dtype
    assert all(bool(value.isfinite().all()) for value in state.values())
