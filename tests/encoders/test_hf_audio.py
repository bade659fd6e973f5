"""The audio encoders of transformers give what transformers itself gives, and checkpoints need no hub and no folder."""

import sys
from functools import partial

import numpy as np
import pytest
import torch

import hub_models
from slap import SLAP, Packed
from slap.core.registry import build
from slap.testing import tiny_batch

transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")

NAMES = ("hf-ast", "hf-clap", "hf-wav2vec2", "hf-whisper")

GROUP = hub_models.WAV2VEC2
LAYER = {**GROUP, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
FUSION = {**hub_models.CLAP, "enable_fusion": True, "fusion_type": "aff_2d"}


def save_ast(folder):
    model = transformers.ASTForAudioClassification(transformers.ASTConfig(**hub_models.AST))
    for name in ("cls_token", "distillation_token", "position_embeddings"):
        torch.nn.init.normal_(getattr(model.audio_spectrogram_transformer.embeddings, name))
    transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return model


def save_whisper(folder):
    transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=1).save_pretrained(folder)
    return transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**hub_models.WHISPER))


def save_wav2vec2(folder, config=GROUP):
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**config))


def save_clap(folder, config=hub_models.CLAP):
    truncation = "fusion" if config.get("enable_fusion") else "rand_trunc"
    settings = {**hub_models.CLAP_EXTRACTOR, "truncation": truncation}
    transformers.ClapFeatureExtractor(**settings).save_pretrained(folder)
    text = {key: value for key, value in hub_models.BERT.items() if key != "model_type"}
    model = transformers.ClapModel(transformers.ClapConfig(text_config=text, audio_config=dict(config)))
    norm = model.audio_model.audio_encoder.batch_norm
    for tensor, low, high in ((norm.running_mean, -40, -20), (norm.running_var, 50, 90), (norm.weight, 1, 2)):
        torch.nn.init.uniform_(tensor, low, high)
    torch.nn.init.normal_(norm.bias)
    return model


SAVERS = {
    "hf-ast": save_ast,
    "hf-whisper": save_whisper,
    "hf-wav2vec2": save_wav2vec2,
    "hf-wav2vec2 layer": partial(save_wav2vec2, config=LAYER),
    "hf-clap": save_clap,
    "hf-clap fusion": partial(save_clap, config=FUSION),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write a folder for each case, by `save_pretrained`."""
    made = {}
    for case, save in SAVERS.items():
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("hub")
        save(folder).save_pretrained(folder)
        made[case] = str(folder)
    return made


def encoder(case, folders, **options):
    return build("audio encoder", case.split()[0], {"pretrained": folders[case], **options}).eval()


# -- what transformers itself gives, (rows of a clip, D), found by the positions of ours ------------------------------


def ast(folder, wave, places):
    model = transformers.ASTModel.from_pretrained(folder, attn_implementation="eager")
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)(wave, sampling_rate=16_000, return_tensors="pt")
    grid = model(inputs.input_values).last_hidden_state[0, 2:].view(2, 5, -1)  # 2 rows in frequency, 5 columns
    return grid[places[:, 1], places[:, 0]]


def whisper(folder, wave, places):
    model = transformers.WhisperModel.from_pretrained(folder, attn_implementation="eager")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")
    return model.encoder(inputs.input_features).last_hidden_state[0, places[:, 0]]


def wav2vec2(folder, wave, places):
    model = transformers.Wav2Vec2Model.from_pretrained(folder, attn_implementation="eager")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    return model(extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values).last_hidden_state[0]


def clap(folder, wave, places):
    model = transformers.ClapModel.from_pretrained(folder).audio_model
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)(wave, sampling_rate=8_000, return_tensors="pt")
    features = model(inputs.input_features.float(), is_longer=torch.zeros(1, 1)).last_hidden_state[0]
    return features[:, places[:, 1], places[:, 0]].T


REFERENCES = {"hf-ast": ast, "hf-whisper": whisper, "hf-wav2vec2": wav2vec2, "hf-clap": clap}

SECONDS = {
    "hf-ast": (400, 2720, 5000, 10_480, 10_639),  # the model's longest is 64 frames of 400 samples every 160
    "hf-whisper": (1, 161, 5000, 15_900, 16_000),
    "hf-wav2vec2": (775, 776, 1100, 9_000, 30_001),
    "hf-clap": (1, 300, 3_000, 5_000, 8_000),
}
"""Samples of clips that fit into the model."""


@pytest.mark.parametrize("loudness", [0.1, 1e-4])
@pytest.mark.parametrize("case", SAVERS)
def test_equals_transformers(case, folders, loudness):
    """Ours in a batch with others, theirs alone; from the waveform on, so their feature extractors are compared too."""
    name = case.split()[0]
    model, noise = encoder(case, folders), torch.Generator().manual_seed(0)
    clips = [torch.randn(size, generator=noise) * loudness for size in SECONDS[name]]
    patches = model.patchify(Packed.pack(clips))
    with torch.no_grad():
        features = model(patches).unpack()
        for clip, mine, places in zip(clips, features, patches.positions.split(patches.sizes), strict=True):
            theirs = REFERENCES[name](folders[case], clip.numpy(), places)
            torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)
            assert theirs.std() > 0.1


@pytest.mark.parametrize("case", [case for case in SAVERS if "wav2vec2" not in case])
def test_longer_clips_are_windows_that_do_not_see_each_other(case, folders):
    """Check that a clip of 2.5 times the longest becomes three windows with the features of three clips."""
    model = encoder(case, folders)
    rate, longest = model.sample_rate, {"hf-ast": 0.655, "hf-whisper": 1.0, "hf-clap": 1.0}[case.split()[0]]
    clip = torch.randn(round(2.5 * longest * rate), generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        patches = model.patchify(Packed.pack([clip]))
        features = model(patches).values
        assert patches.positions[:, -1].unique().tolist() == [0, 1, 2]
        changed = patches.replace(torch.where(patches.positions[:, -1:] == 1, 0.3, patches.values))
        moved = (model(changed).values - features).abs().amax(1) > 1e-4
        assert moved[patches.positions[:, -1] == 1].all()
        assert not moved[patches.positions[:, -1] != 1].any()


@pytest.mark.parametrize("name", ["hf-ast", "hf-whisper"])
def test_without_filling_only_the_clip_is_run(name, folders):
    """Check that `fill` does not matter for a clip of the full length, and that shorter clips keep the contract."""
    whole, bare = encoder(name, folders), encoder(name, folders, fill=False)
    size = {"hf-ast": 400 + 63 * 160, "hf-whisper": 16_000}[name]
    clip = torch.randn(size, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        full = Packed.pack([clip])
        torch.testing.assert_close(
            bare(bare.patchify(full)).values, whole(whole.patchify(full)).values, atol=1e-5, rtol=0
        )
        parts = [clip[: size // 2], clip, clip[:3000]]
        together = bare(bare.patchify(Packed.pack(parts)))
        alone = torch.cat([bare(bare.patchify(Packed.pack([part]))).values for part in parts])
    torch.testing.assert_close(together.values, alone, atol=1e-5, rtol=0)
    lengths = []
    bare.model.layers[0].register_forward_pre_hook(lambda layer, args: lengths.append(args[0].shape[1]))
    bare(bare.patchify(Packed.pack([clip[:3000]])))
    assert lengths[0] < 25


@pytest.mark.parametrize("name", ["hf-ast", "hf-wav2vec2", "hf-whisper"])
def test_times_run_on_through_windows(name, folders):
    """Check that a click shows at its time, also in a clip of several windows."""
    model = encoder(name, folders)
    clip = torch.randn(40_000, generator=torch.Generator().manual_seed(0)) * 1e-3
    clip[30_500:30_600] = 0.5
    patches = model.patchify(Packed.pack([clip]))
    assert patches.positions[:, 0].max() in range(round(2.5 / model.step) - 3, round(2.5 / model.step) + 1)
    seconds = patches.positions[patches.values.amax(1).argmax(), 0].item() * model.step
    assert abs(seconds - 30_550 / 16_000) < max(2 * model.step, 0.05)


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_training_masks_segments_of_a_clip(name, folders):
    model = encoder(name, folders)
    clip = Packed.pack([torch.randn(model.sample_rate, generator=torch.Generator().manual_seed(0)) * 0.1])
    calm = model.patchify(clip).values
    torch.manual_seed(0)
    model.train()
    masked = model.patchify(clip).values
    assert masked.shape == calm.shape
    assert not torch.equal(masked, calm)
    off = {"mask_share": 0.0} | ({} if name == "hf-wav2vec2" else {"mask_bands": 0})
    still = encoder(name, folders, **off).train()
    assert torch.equal(still.patchify(clip).values, calm)


@pytest.mark.parametrize("name", NAMES)
def test_learning_rates(name, folders):
    model = encoder(name, folders)
    scales = {parameter: model.lr_scale(parameter) for parameter, _ in model.named_parameters()}
    assert scales.pop("mask_token") == 1.0
    assert set(scales.values()) == {0.1}
    assert encoder(name, folders, lr_scale=0.5).lr_scale("model.x") == 0.5
    assert build("audio encoder", name, {"size": "tiny"}).lr_scale("model.x") == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_recomputing_activations_changes_nothing(name, folders):
    clip = Packed.pack([torch.randn(6000, generator=torch.Generator().manual_seed(0)) * 0.1])
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = encoder(name, folders, checkpointing=checkpointing)
        patches = model.patchify(clip)
        model.train()  # recomputing happens in training only
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model(patches).values.square().sum().backward()
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-4, atol=1e-5)


def test_the_averages_of_bands_stay_in_training(folders):
    model = encoder("hf-clap", folders).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(model.patchify(Packed.pack([torch.randn(4000)])))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


# -- where it comes from ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SAVERS)
def test_a_checkpoint_needs_no_folder(case, folders, tmp_path, monkeypatch):
    name, options = case.split()[0], {"pretrained": folders[case], "mask_share": 0.05}
    model = build("audio encoder", name, options)
    portable = model.portable(options)
    torch.save({"options": portable, "state": model.state_dict()}, tmp_path / "model.pt")
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", None)
    monkeypatch.setattr(transformers.AutoFeatureExtractor, "from_pretrained", None)
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert "pretrained" not in saved["options"]
    assert saved["options"]["mask_share"] == 0.05
    rebuilt = build("audio encoder", name, saved["options"]).eval()
    rebuilt.load_state_dict(saved["state"])
    assert rebuilt.portable(saved["options"]) == portable
    assert rebuilt.lr_scale("model.x") == 0.1
    clip = Packed.pack([torch.randn(7000, generator=torch.Generator().manual_seed(0))])
    model.eval()
    with torch.no_grad():
        expected = model(model.patchify(clip)).values
        assert torch.equal(rebuilt(rebuilt.patchify(clip)).values, expected)


def layer(width, hidden, biases=4):
    """Attention, of whose four projections so many have a bias, a feed-forward and two norms."""
    return 4 * width**2 + biases * width + 2 * width * hidden + hidden + width + 4 * width


PUBLISHED = {
    # Patches, tokens and positions of 12 x 101 patches, a norm; a token for hidden patches beside it.
    "hf-ast": (256 + 1) * 768 + (2 + 2 + 12 * 101) * 768 + 12 * layer(768, 3072) + 2 * 768 + 768,
    # Two convolutions and positions, which are fixed but weights all the same.
    "hf-whisper": (3 * 80 + 1 + 3 * 512 + 1 + 1500) * 512 + 6 * layer(512, 2048, 3) + 2 * 512 + 512,
    # Transformers counts 94,371,712 for facebook/wav2vec2-base, of which 128 are the scales of the weight norm.
    "hf-wav2vec2": 94_371_712 - 128,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_base_is_the_published_shape(name):
    with torch.device("meta"):
        model = build("audio encoder", name, {"size": "base"})
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_another_model_are_refused(name, folders):
    other = folders["hf-whisper" if name != "hf-whisper" else "hf-ast"]
    with pytest.raises(ValueError, match=r"is a '.*' model; this encoder runs '.*' models"):
        build("audio encoder", name, {"pretrained": other})


@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_exclude_each_other_or_are_unknown(name):
    with pytest.raises(ValueError, match="give one of them, not pretrained='x' and size='tiny'"):
        build("audio encoder", name, {"pretrained": "x", "size": "tiny"})
    with pytest.raises(ValueError, match="there is no size 'huge'; valid are: tiny, base"):
        build("audio encoder", name, {"size": "huge"})
    with pytest.raises(ValueError, match=r"Config has no hiden; valid are: "):
        build("audio encoder", name, {"config": {"hiden": 64}})
    with pytest.raises(ValueError, match=r"FeatureExtractor has no rate; valid are: .*sampling_rate"):
        build("audio encoder", name, {"size": "tiny", "extractor": {"rate": 64}})


@pytest.mark.parametrize("name", ["hf-ast", "hf-clap", "hf-whisper"])
def test_an_extractor_that_does_not_fit_is_refused(name):
    bands = "num_mel_bins" if name == "hf-ast" else "feature_size"
    with pytest.raises(ValueError, match=r"the feature extractor makes .* the model takes"):
        build("audio encoder", name, {"size": "tiny", "extractor": {bands: 40}})


def test_models_that_cannot_run_say_why(folders):
    with pytest.raises(ValueError, match="add_adapter is set"):
        build("audio encoder", "hf-wav2vec2", {"config": {**GROUP, "add_adapter": True}})
    channels = {"config": {**FUSION, "fusion_type": "channel_map"}, "extractor": hub_models.CLAP_EXTRACTOR}
    with pytest.raises(ValueError, match="'channel_map' take crops"):
        build("audio encoder", "hf-clap", channels)
    deep = {**hub_models.CLAP, "depths": [1, 1, 1, 1, 1], "num_attention_heads": [2] * 5}
    with pytest.raises(ValueError, match="do not divide an image of 64"):
        build("audio encoder", "hf-clap", {"config": deep, "extractor": hub_models.CLAP_EXTRACTOR})
    with pytest.raises(ValueError, match=r"dither of 0\.1"):
        build("audio encoder", "hf-whisper", {"size": "tiny", "extractor": {"dither": 0.1}})


def test_incomplete_weights_are_refused(folders, tmp_path):
    config = transformers.ASTConfig.from_pretrained(folders["hf-ast"])
    transformers.ASTModel.from_pretrained(folders["hf-ast"]).save_pretrained(tmp_path)
    config.num_hidden_layers = 3
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks weights, so they would stay random: layers\.2"):
        build("audio encoder", "hf-ast", {"pretrained": str(tmp_path)})


@pytest.mark.parametrize("name", NAMES)
def test_without_transformers_the_error_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'slap-audio\[hf\]'"):
        build("audio encoder", name, {"size": "tiny"})


# -- in a model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_slap_model_of_it_learns_and_embeds_alike_in_any_batch(name, folders):
    torch.manual_seed(0)
    audio = {"name": name, "pretrained": folders[name]}
    text = {"name": "transformer", "size": "nano", "vocab_size": 300}
    model = SLAP(audio=audio, text=text, objectives={"contrastive": 1.0}, embedding_dim=8)
    model.text.prepare(["a dog barks", "rain falls on a metal roof while a man is speaking", "an owl"] * 4)
    batch = tiny_batch(model, [0.3, 1.4, 0.05])
    model.eval()
    with torch.no_grad():
        together = model.embed_audio(batch.audio)
        alone = torch.cat([model.embed_audio(Packed.pack([clip])) for clip in batch.audio.unpack()])
    np.testing.assert_allclose(together, alone, atol=1e-5)
