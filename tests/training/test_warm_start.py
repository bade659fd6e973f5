"""Beginning from a trained model: what is taken over, what may change, which parts learn and how fast."""

import pytest
import torch
from torch import nn

import slap
from slap import SLAP, Packed
from slap.recipes import finetune
from slap.testing.tiny import CAPTIONS, tiny_checkpoint
from slap.training.optim import depths, parameter_groups
from slap.training.warm_start import WarmStart

SMALL = {"warmup_steps": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint, the folder that it is exported to, and the model."""
    folder = tmp_path_factory.mktemp("trained")
    model = tiny_checkpoint(folder / "best.ckpt")
    slap.load(folder / "best.ckpt", "cpu").save_pretrained(folder / "exported", allow_collapsed=True)
    return folder, model


@pytest.mark.parametrize("what", ["best.ckpt", "exported"])
def test_a_model_begins_where_the_trained_one_is(trained, what):
    folder, model = trained
    made = finetune.model(start=str(folder / what), objectives={"contrastive": 1.0, "captioning": 0.5}, **SMALL)
    before, after = model.state_dict(), made.state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert made.text.tokenize(["a dog barks"]).values.tolist() == model.text.tokenize(["a dog barks"]).values.tolist()
    assert made.objectives["captioning"].width == 32  # as it was made, though only a weight was given
    assert all(parameter.requires_grad for parameter in made.parameters())


def test_new_objectives_begin_anew_and_a_teacher_begins_from_the_trained_weights(trained):
    folder, model = trained
    distillation = {"prototypes": 8, "hidden": 8, "bottleneck": 4}
    made = finetune.model(start=str(folder / "best.ckpt"), objectives={"masked_distillation": distillation}, **SMALL)
    assert set(made.objectives) == {"masked_distillation"}
    for name, value in model.audio.state_dict().items():
        assert torch.equal(made.teacher.copy_of(made.audio).state_dict()[name], value)
    start = WarmStart.read(folder / "best.ckpt")
    assert start.fill(made) == ["audio", "audio_pool", "text", "text_pool"]


def test_arguments_of_encoders_that_may_change(trained):
    folder, _ = trained
    made = finetune.model(start=str(folder / "best.ckpt"), audio={"mask_bands": 3, "mask_share": 0.0}, **SMALL)
    assert made.hparams["audio"]["mask_bands"] == 3
    assert made.hparams["audio"]["size"] == "nano"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio": {"size": "tiny"}}, "`audio` of .* does not fit the model: it was made with other arguments"),
        ({"audio": {"name": "hf-clap"}}, "the audio encoder of .* is 'transformer'; asked for was 'hf-clap'"),
        ({"text": "modernbert"}, "the text encoder of .* is 'transformer'; asked for was 'modernbert'"),
        ({"objectives": {"captioning": {"width": 64}}}, "`objectives.captioning` of .* does not fit"),
        ({"freeze": ["audo"]}, "no parameter's name begins with 'audo'; the parts of the model are audio"),
        ({"lr_scales": {"audio.block": 1.0}}, None),
        ({"layer_decay": 1.5}, "layer_decay is a factor above 0 and up to 1, got 1.5"),
    ],
)
def test_what_does_not_fit_is_said(trained, options, message):
    folder, _ = trained
    if message is None:  # shows when the optimizer is made
        made = finetune.model(start=str(folder / "best.ckpt"), **options, **SMALL)
        with pytest.raises(ValueError, match=r"no parameter's name begins with 'audio.block'"):
            parameter_groups(made, 1.0, 0.0, 1.0, made.hparams["lr_scales"])
        return
    with pytest.raises(ValueError, match=message):
        finetune.model(start=str(folder / "best.ckpt"), **options, **SMALL)


def test_what_is_no_model_of_slap(tmp_path):
    with pytest.raises(ValueError, match="there is no model"):
        finetune.model(start=str(tmp_path / "none.ckpt"))
    (tmp_path / "some.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="cut off, damaged, or no checkpoint"):
        finetune.model(start=str(tmp_path / "some.ckpt"))


def test_a_checkpoint_of_a_fine_tuned_model_needs_the_first_one_no_more(trained, tmp_path):
    folder, _ = trained
    made = finetune.model(start=str(folder / "best.ckpt"), freeze=["audio"], lr_scales={"text": 0.5}, **SMALL)
    content = {"hyper_parameters": dict(made.hparams), "state_dict": made.state_dict()}
    made.on_save_checkpoint(content)
    torch.save(content, tmp_path / "tuned.ckpt")
    assert str(folder) not in str(content["hyper_parameters"])
    again = slap.load(tmp_path / "tuned.ckpt", "cpu").backend.network
    assert all(torch.equal(value, again.audio.state_dict()[name]) for name, value in made.audio.state_dict().items())


# -- which parts learn, and how fast ----------------------------------------------------------------------------------


def test_frozen_parts_take_no_gradient_and_others_do():
    nano = {"name": "transformer", "size": "nano"}
    model = SLAP(nano, {**nano, "vocab_size": 300}, freeze=["audio", "text.embed"])
    assert not any(parameter.requires_grad for parameter in model.audio.parameters())
    assert not model.text.embed.weight.requires_grad
    learning = {id(p) for group in parameter_groups(model, 1.0, 0.1) for p in group["params"]}
    assert learning == {id(p) for name, p in model.named_parameters() if not name.startswith(("audio.", "text.embed."))}
    assert all(parameter.requires_grad for parameter in model.audio_pool.parameters())  # audio, not audio_pool


def test_lower_layers_learn_less():
    nano = {"name": "transformer", "size": "nano"}
    model = SLAP(nano, {**nano, "vocab_size": 300}, layer_decay=0.5, lr_scales={"audio": 0.1, "audio.norm": 3.0})
    groups = parameter_groups(model, 1.0, 0.0, 0.5, {"audio": 0.1, "audio.norm": 3.0})
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    layers = len(model.audio.blocks)
    found = {name: rate[id(parameter)] for name, parameter in model.audio.named_parameters()}
    assert found["norm.weight"] == 3.0  # the longest beginning counts, and it stands after all layers
    for number in range(layers):
        (own,) = {found[name] for name in found if name.startswith(f"blocks.{number}.")}
        assert own == pytest.approx(0.1 * 0.5 ** (layers - number))
    assert found["embed.weight"] == found["mask_token"] == pytest.approx(0.1 * 0.5 ** (layers + 1))
    assert rate[id(model.audio_pool.query)] == 1.0


def test_depths_of_layers_in_stages_and_of_none():
    def stage():
        return nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(1, 1, bias=False)]), "down": nn.Linear(1, 1)})

    swin = nn.ModuleDict({"patch_embed": nn.Linear(1, 1, bias=False), "layers": nn.ModuleList([stage(), stage()])})
    swin["norm"] = nn.RMSNorm(1)
    names = [name for name, _ in swin.named_parameters()]
    assert names[1:4] == ["layers.0.blocks.0.weight", "layers.0.down.weight", "layers.0.down.bias"]
    assert depths(swin) == [5, 4, 3, 3, 2, 1, 1, 0]
    assert depths(nn.Linear(2, 2)) == [0, 0]


def test_an_older_checkpoint_keeps_the_options_of_its_time(tmp_path):
    """Before `fill` and a default of `row_embedding` by size, a checkpoint did not name them."""
    torch.manual_seed(0)
    older = {"name": "transformer", "size": "nano", "fill": "mean", "row_embedding": False}
    text = {"name": "transformer", "size": "nano", "vocab_size": 320}
    made = SLAP(older, text, ema=True).eval()
    made.text.prepare(CAPTIONS)
    content = {"hyper_parameters": dict(made.hparams), "state_dict": made.state_dict()}
    content["pytorch-lightning_version"] = "2.6.6"
    made.on_save_checkpoint(content)
    for name in ("fill", "row_embedding"):
        del content["hyper_parameters"]["audio"][name]
    torch.save(content, tmp_path / "older.ckpt")
    clip = torch.rand(9_000, generator=torch.Generator().manual_seed(0)) - 0.5
    expected = made.embed_audio(Packed.pack([clip])).detach()
    used = slap.load(tmp_path / "older.ckpt", "cpu")
    torch.testing.assert_close(used.embed_audio(clip), expected, rtol=0, atol=1e-5)
    used.save_pretrained(tmp_path / "out", allow_collapsed=True)
    torch.testing.assert_close(slap.load(tmp_path / "out", "cpu").embed_audio(clip), expected, rtol=0, atol=1e-5)
    start = WarmStart.read(tmp_path / "older.ckpt")
    tuned = SLAP(**start.arguments({"contrastive": 1.0}))
    start.fill(tuned)
    again = SLAP.load_from_checkpoint(tmp_path / "older.ckpt", weights_only=True)
    for model in (tuned, again):
        torch.testing.assert_close(model.eval().embed_audio(Packed.pack([clip])).detach(), expected, rtol=0, atol=1e-5)
    assert again.portable(dict(again.hparams))["audio"] == older
