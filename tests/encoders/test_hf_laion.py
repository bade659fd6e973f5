"""Checkpoints of LAION's package become models by the command, and nothing in them is run."""

import re

import numpy as np
import pytest
import torch

import clap_folders
import hub_models
import slap
from slap.cli.main import main
from slap.core.packed import Packed

transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")

BACK = (
    (r"^text_model\.", "text_branch."),
    (r"^audio_model\.audio_encoder\.", "audio_branch."),
    (r"^audio_branch\.batch_norm\.", "audio_branch.bn0."),
    (r"_projection\.linear1\.", "_projection.0."),
    (r"_projection\.linear2\.", "_projection.2."),
    (r"(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"(blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"(blocks\.\d+)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.attention\.self\.", r"\1.attn."),
)
"""The names of `ClapModel`, and those of laion_clap 1.1.7."""

AUDIO = {name: value for name, value in hub_models.CLAP.items() if name not in ("spec_size", "num_mel_bins")} | {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 16,
    "window_size": 8,
}
TEXT = {**clap_folders.TEXT, "hidden_size": 64, "num_attention_heads": 1, "layer_norm_eps": 1e-5}


def clap(**audio):
    torch.manual_seed(0)
    config = transformers.ClapConfig(text_config=TEXT, audio_config={**AUDIO, **audio}, projection_dim=12)
    return transformers.ClapModel(config).eval()


def theirs(model):
    """The state dict of the package: names, joint projections of attention, and what only its training needs."""
    state = {}
    for name, value in model.state_dict().items():
        for old, new in BACK:
            name = re.sub(old, new, name)
        state[f"module.{name}"] = value
    for name in [name for name in state if name.endswith((".attn.query.weight", ".attn.query.bias"))]:
        parts = [state.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        state[name.replace("query", "qkv")] = torch.cat(parts)
    for name in ("token_type_ids", "position_ids"):
        del state[f"module.text_branch.embeddings.{name}"]  # the older ones have position_ids
    state["module.audio_branch.spectrogram_extractor.stft.conv_real.weight"] = torch.zeros(513, 1, 1024)
    state["module.audio_branch.logmel_extractor.melW"] = torch.zeros(513, 64)
    state["module.audio_branch.tscam_conv.weight"] = torch.zeros(527, 16, 2, 3)
    state["module.audio_branch.layers.0.blocks.1.attn_mask"] = torch.zeros(4, 64, 64)
    state["module.audio_transform.sequential.0.weight"] = torch.zeros(12, 12)
    state["module.text_transform.sequential.3.bias"] = torch.zeros(12)
    return {"epoch": 3, "name": "x", "best": np.float64(0.25), "state_dict": state, "optimizer": {"lr": np.float32(1)}}


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    clap_folders.roberta().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("fusion", [{}, {"enable_fusion": True, "fusion_type": "aff_2d"}], ids=["unfused", "fusion"])
def test_a_checkpoint_of_laion_becomes_the_same_model(fusion, roberta, tmp_path):
    model = clap(**fusion)
    torch.save(theirs(model), tmp_path / "630k.pt")
    command = ["convert", str(tmp_path / "630k.pt"), str(tmp_path / "out"), "--tokenizer", str(roberta)]
    assert main([*command, "--allow-collapsed"]) == 0
    made = slap.load(tmp_path / "out", device="cpu")
    network = made.backend.network
    assert network.text.max_tokens == 58  # all that it has positions for; of the published models 77
    assert made.max_seconds == 10.0
    clip = torch.randn(48_000, generator=torch.Generator().manual_seed(0)) * 0.1
    truncation = "fusion" if fusion else "rand_trunc"
    extractor = transformers.ClapFeatureExtractor(frequency_min=50, padding="repeatpad", truncation=truncation)
    inputs = extractor(clip.numpy(), sampling_rate=48_000, return_tensors="pt")
    tokens = clap_folders.roberta()(clap_folders.TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        sound = model.get_audio_features(inputs.input_features, is_longer=torch.zeros(1, 1)).pooler_output
        words = model.get_text_features(**tokens).pooler_output
        torch.testing.assert_close(network.embed_audio(Packed.pack([clip])), sound, atol=1e-5, rtol=0)
    torch.testing.assert_close(made.embed_text(clap_folders.TEXTS[0]), words, atol=1e-5, rtol=0)
    assert main([*command, "--allow-collapsed"]) == 2  # OUT is there


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"a": torch.zeros(1)}, "x": Evil()}, "holds more than tensors and plain data"),
        ({"state_dict": {"audio_branch.conv_block1.conv1.weight": torch.zeros(1)}}, "no CLAP model with HTS-AT"),
        ({"model": {"caption_encoder.base.wte.weight": torch.zeros(1)}}, "Microsoft's package msclap, which is not"),
        ({"model": {"clap.base.htsat.norm.weight": torch.zeros(1)}}, "Embed with msclap, or start from"),
        ({"state_dict": {"a": 1}}, "no `state_dict` of tensors"),
        ([1], "no `state_dict` of tensors"),
    ],
)
def test_other_files_are_refused_and_nothing_runs(content, message, roberta, tmp_path, capsys):
    torch.save(content, tmp_path / "x.pt")
    assert main(["convert", str(tmp_path / "x.pt"), str(tmp_path / "out"), "--tokenizer", str(roberta)]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert not out
    assert not (tmp_path / "out").exists()
