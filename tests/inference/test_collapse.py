"""Collapsed models are warned of when they are loaded, and refused where their results would be kept."""

import logging

import pytest
import soundfile
import torch

import slap
from slap.cli.main import main
from slap.core.errors import UserError
from slap.testing.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
    """A checkpoint whose texts all have the same embedding, beside recordings and a table of them."""
    folder = tmp_path_factory.mktemp("dead")
    tiny_checkpoint(folder / "good.ckpt")
    content = torch.load(folder / "good.ckpt", weights_only=True)
    content["state_dict"]["text_pool.project.weight"].zero_()
    torch.save(content, folder / "dead.ckpt")
    (folder / "sounds").mkdir()
    for number in range(3):
        clip = torch.randn(16_000, generator=torch.Generator().manual_seed(number)) * 0.1
        soundfile.write(folder / "sounds" / f"{number}.wav", clip.numpy(), 16_000)
    rows = "".join(f"sounds/{number}.wav,sound {number}\n" for number in range(3))
    (folder / "mine.csv").write_text("audio,caption\n" + rows)
    return folder


@pytest.mark.parametrize(("name", "warned"), [("dead.ckpt", True), ("good.ckpt", False)])
def test_loading_warns(dead, name, warned, caplog):
    with caplog.at_level(logging.WARNING):
        slap.load(dead / name, device="cpu")
    lines = [record.getMessage() for record in caplog.records if "is collapsed" in record.getMessage()]
    assert bool(lines) == warned
    assert all(f"{name} is collapsed: 8 of 8 varied texts have no direction" in line for line in lines)


def test_evaluation_refuses(dead, tmp_path):
    sources = {"mine": dead / "mine.csv"}
    with pytest.raises(UserError, match=r"is collapsed: .*allow_collapsed=True\) it is evaluated anyway"):
        slap.evaluate(dead / "dead.ckpt", ["retrieval/mine"], sources, device="cpu")
    command = ["evaluate", str(dead / "dead.ckpt"), "--tasks", "retrieval/mine", "--out", str(tmp_path / "out.json")]
    assert main([*command, "--manifest", f"mine={dead / 'mine.csv'}", "--no-plots"]) == 2


def test_the_index_refuses_unless_told(dead, tmp_path, capsys):
    pytest.importorskip("lancedb")
    command = ["index", str(dead / "dead.ckpt"), str(dead / "sounds"), str(tmp_path / "index"), "--device", "cpu"]
    assert main(command) == 2
    assert "with --allow-collapsed" in capsys.readouterr().err.lower()
    assert main([*command, "--allow-collapsed"]) == 0


def test_a_text_encoder_without_tokenizer_is_looked_at_no_further():
    from slap.inference.collapse import complaint
    from slap.inference.network_backend import NetworkBackend

    untaught = {"name": "transformer", "size": "nano"}
    network = slap.SLAP(audio=untaught, text=untaught)
    assert network.text.tokenizer is None
    assert complaint(slap.Model(NetworkBackend(network, {})), 3) is None
