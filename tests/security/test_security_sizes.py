"""Canaries for the promise of SECURITY.md that what a model's file describes is weighed before memory is allocated."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

import slap
from slap.core.errors import UserError
from slap.core.outline import outline
from slap.inference import rebuild
from slap.model.network import Network
from slap.testing.tiny import tiny_checkpoint

SMALL = {"name": "transformer", "size": "nano"}
MODEL = {
    "audio": SMALL,
    "text": {**SMALL, "vocab_size": 400},
    "embedding_dim": 16,
    "objectives": {"captioning": {"weight": 1.0, "layers": 1, "width": 32}},
}
HUGE = {
    "the shared dimension": {"embedding_dim": 10**10},
    "a number beyond 64 bits": {"embedding_dim": 10**30},
    "layers": {"objectives": {"captioning": {"layers": 10**7, "width": 32}}},
    "a width": {"objectives": {"captioning": {"layers": 1, "width": 10**8}}},
    "a vocabulary": {"text": {**SMALL, "vocab_size": 10**9}},
    "mel bands": {"audio": {**SMALL, "bands": 16 * 10**8}},
}


@pytest.fixture(scope="module")
def state():
    return Network(**MODEL).state_dict()


@pytest.mark.parametrize("change", HUGE.values(), ids=HUGE)
def test_a_model_is_weighed_before_it_is_made(change: dict, state: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """These took terabytes, or minutes, before a shape was compared."""
    rebuild.build(MODEL, state)
    made: list = []
    monkeypatch.setattr(rebuild, "Network", lambda **options: _noted(made, options))
    with pytest.raises(UserError, match=r"it is not made|no model can be made of these arguments|do not fit"):
        rebuild.build({**MODEL, **change}, state)
    assert made == ["meta"]  # once, without memory


def _noted(made: list, options: dict) -> Network:
    made.append(torch.get_default_device().type)
    return Network(**options)


def test_a_checkpoint_that_describes_a_huge_model(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "m.ckpt")
    content = torch.load(tmp_path / "m.ckpt", weights_only=True)
    content["hyper_parameters"]["embedding_dim"] = 10**10
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(UserError, match="it is not made"):
        slap.load(tmp_path / "m.ckpt")
    tiny_checkpoint(tmp_path / "good.ckpt")
    slap.load(tmp_path / "good.ckpt").save_pretrained(tmp_path / "saved", allow_collapsed=True)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    config["arguments"]["embedding_dim"] = 10**10
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="it is not made"):
        slap.load(tmp_path / "saved", trust=True)


def test_the_outline_has_the_names_and_shapes_of_the_model(state: dict) -> None:
    found = outline(lambda: Network(**MODEL), state)
    assert found is not None
    described = found.state_dict()
    assert {name: value.shape for name, value in described.items()} == {
        name: value.shape for name, value in state.items()
    }
    assert {value.device.type for value in found.parameters()} == {"meta"}


def test_a_plugin_that_looks_at_values_is_made_all_the_same() -> None:
    def make() -> torch.nn.Module:
        part = torch.nn.Linear(2, 2)
        part.scale = torch.ones(3).sum().item()
        return part

    assert outline(make, {}) is None


def test_one_value_that_is_shown_a_billion_times_is_one(state: dict) -> None:
    """A checkpoint may hold tensors with strides of 0, and tensors that share their values."""
    wide = {**MODEL, "embedding_dim": 10**9}
    shown = {
        key: value[:1].expand(10**9, *value.shape[1:]) if value.shape[:1] == (16,) else value
        for key, value in state.items()
    }
    assert any(value.numel() > 10**9 for value in shown.values())
    with pytest.raises(UserError, match="it is not made"):
        rebuild.build(wide, shown)


def test_a_checkpoint_is_no_bomb(tmp_path: Path) -> None:
    """Torch stores the parts of a checkpoint as they are."""
    tiny_checkpoint(tmp_path / "m.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "m.ckpt") as archive,
        zipfile.ZipFile(tmp_path / "packed.ckpt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in archive.namelist():
            packed.writestr(part, archive.read(part))
    with pytest.raises(UserError, match=r"is refused: its part .* is compressed"):
        slap.load(tmp_path / "packed.ckpt")
