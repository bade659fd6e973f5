"""Adapters: they alone learn in the encoders, go on after an interruption, and are merged in use."""

import pytest
import torch
from torch import nn

import slap
from slap.cli.main import main
from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.inference.adapters import Lora, merged
from slap.recipes import finetune
from slap.training.lora import insert
from slap.training.module import SLAP

pytest.importorskip("peft", reason="needs the extra `lora`")

NANO = {
    "audio": {"name": "transformer", "size": "nano"},
    "text": {"name": "transformer", "size": "nano", "vocab_size": 300},
}


def moved(model):
    """Give the adapters values, which begin as zero."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model


def with_adapters(**options):
    model = SLAP(**NANO, lora=options)
    insert(model, options)
    return model


def test_the_merged_weights_compute_the_same():
    options = {"rank": 2, "alpha": 3.0, "targets": ["qkv", "enter"]}
    model = moved(with_adapters(**options)).eval()
    plain = SLAP(**NANO).eval()
    plain.load_state_dict(merged(model.state_dict(), options))
    tokens = Packed.pack([torch.arange(5), torch.arange(3)])
    audio = Packed.pack([torch.randn(16_000)])
    with torch.no_grad():
        torch.testing.assert_close(plain.embed_text(tokens), model.embed_text(tokens), atol=1e-5, rtol=0)
        torch.testing.assert_close(plain.embed_audio(audio), model.embed_audio(audio), atol=1e-5, rtol=0)
    assert not any("lora" in name for name in plain.state_dict())
    layers = {name for name, _ in model.named_modules() if name.endswith("lora_A")}
    assert {name.split(".")[-2] for name in layers} == {"qkv", "enter"}
    assert not any("pool" in name for name in layers)


def test_only_adapters_and_heads_learn():
    model = with_adapters(rank=2)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    encoders = {name for name in learning if name.startswith(("audio.", "text."))}
    assert encoders
    assert all("lora_" in name for name in encoders)
    heads = {name for name, _ in model.named_parameters() if not name.startswith(("audio.", "text."))}
    assert heads <= learning
    before = [name for name, _ in model.named_modules()]
    insert(model, {"rank": 2})
    assert [name for name, _ in model.named_modules()] == before


def test_frozen_parts_get_no_adapters():
    model = SLAP(**NANO, lora={"rank": 2}, freeze=["text"])
    insert(model, {"rank": 2})
    sides = {name.partition(".")[0] for name, _ in model.named_parameters() if "lora_" in name}
    assert sides == {"audio"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranks": 2}, "lora has no ranks; its arguments are rank, alpha, dropout, targets"),
        ({"rank": 0}, "rank is a whole number of at least 1, got 0"),
        ({"alpha": -1}, "alpha is a number above 0"),
        ({"dropout": 1.0}, "dropout is a share"),
        ({"targets": "qkv"}, "targets is a list of names"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        SLAP(**NANO, lora=options)


def test_unknown_targets_and_teachers_are_refused():
    with pytest.raises(UserError, match=r"no linear layer that learns is named query; the encoders have .*qkv"):
        with_adapters(targets=["query"])
    with pytest.raises(UserError, match="lora does not go with averages"):
        SLAP(**NANO, lora={}, ema=True)


def test_a_state_that_lacks_an_adapter_is_refused():
    state = with_adapters(rank=2).state_dict()
    del state[next(name for name in state if "lora_A" in name)]
    with pytest.raises(UserError, match="lacks the adapter of"):
        merged(state, {"rank": 2})
    with pytest.raises(UserError, match="do not fit rank 3"):
        merged(with_adapters(rank=2).state_dict(), {"rank": 3})
    assert Lora().strength == 16.0


@pytest.mark.slow
def test_a_run_with_adapters(tmp_path):
    """Train, resume, test, export and begin anew from the result, by the commands."""
    corpus = tmp_path / "corpus"
    base = ["--recipe", "demo", "--data.folder", str(corpus), "--data.train", "40", "--data.val", "40"]
    base += ["--trainer.out", str(tmp_path / "run"), "--model.warmup_steps", "1", "--trainer.accelerator", "cpu"]
    base += ["--model.lora", "{rank: 2, targets: [qkv]}", "--model.objectives", "{contrastive: 1.0}"]
    assert main(["fit", *base, "--trainer.max_steps", "2"]) in (None, 0)
    last = tmp_path / "run" / "last.ckpt"
    state = torch.load(last, weights_only=True)["state_dict"]
    assert any("lora_A" in name for name in state)
    model = slap.load(last, device="cpu")
    assert not any("lora" in name or "base_layer" in name for name in model.backend.network.state_dict())
    longer = ["--trainer.max_steps", "4", "--trainer.changed_options", "accept"]
    assert main(["fit", *base, *longer, "--ckpt_path", "last"]) in (None, 0)
    assert main(["test", *base, "--ckpt_path", "last"]) in (None, 0)
    assert main(["export", str(last), str(tmp_path / "out"), "--allow-collapsed"]) == 0
    assert slap.load(tmp_path / "out", device="cpu").name == slap.load(last, device="cpu").name
    again = finetune.model(start=str(last), lora={"rank": 3})
    assert again.state_dict().keys() == finetune.model(start=str(last)).state_dict().keys()
