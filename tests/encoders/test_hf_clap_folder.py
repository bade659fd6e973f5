"""A folder of a CLAP model of transformers can be used as a SLAP model can."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

import clap_folders
import slap
from slap.core.windows import hop_of, windows

transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")

RATE, TEXTS, save = clap_folders.RATE, clap_folders.TEXTS, clap_folders.save


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clap")
    save(path)
    return path


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    path = tmp_path_factory.mktemp("fused")
    save(path, enable_fusion=True, fusion_type="aff_2d")
    return path


@pytest.fixture(scope="module")
def model(folder):
    return slap.load(folder, device="cpu")


def noise(samples, seed=0):
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def theirs_audio(folder, clip, longer=None):
    model = transformers.ClapModel.from_pretrained(folder)
    inputs = transformers.ClapProcessor.from_pretrained(folder).feature_extractor(
        clip.numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    longer = inputs.is_longer if longer is None else longer
    with torch.no_grad():
        features = model.get_audio_features(inputs.input_features.float(), is_longer=longer).pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


def test_audio_equals_transformers(folder, model):
    clips = [noise(n, seed=n) for n in (1, 500, 2_700, 4_001, 8_000)]
    mine = model.embed_audio(clips)
    theirs = torch.cat([theirs_audio(folder, clip) for clip in clips])
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    assert (mine[1] - mine[4]).abs().max() > 0.01


def test_text_equals_transformers(folder, model):
    """Ours in a batch, theirs alone."""
    clap = transformers.ClapModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [clap.get_text_features(**tokenizer(text, return_tensors="pt")).pooler_output for text in TEXTS]
    mine = model.embed_text(TEXTS)
    torch.testing.assert_close(mine, torch.cat(rows), atol=1e-5, rtol=0)
    assert (mine[0] - mine[1]).abs().max() > 0.01


def test_long_audio_goes_through_windows_and_not_through_a_random_crop(folder, model):
    clip = noise(20_500)
    spans = windows(len(clip), RATE, hop_of(RATE))
    assert len(spans) > 2
    rows = torch.cat([theirs_audio(folder, clip[start:stop]) for start, stop in spans])
    embedding = model.embed_audio(clip)[0]
    assert torch.equal(model.embed_audio(clip)[0], embedding)
    solved = torch.linalg.lstsq(rows.T, embedding[:, None]).solution[:, 0]
    torch.testing.assert_close(rows.T @ solved, embedding, atol=1e-5, rtol=0)  # a combination of the windows' own
    assert (solved > 0).all()


def test_an_embedding_does_not_depend_on_the_batch(model):
    clips = [noise(n, seed=n) for n in (900, 8_000, 12_345, 1)]
    together = model.embed_audio(clips)
    alone = torch.cat([model.embed_audio(clip) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_fusion_models_fuse_nothing(fused):
    """Check that no clip is fused: the extractor would mark one short clip of a batch as longer, at random."""
    model = slap.load(fused, device="cpu")
    clips = [noise(n, seed=n) for n in (500, 8_000)]
    theirs = torch.cat([theirs_audio(fused, clip, longer=torch.zeros(1, 1)) for clip in clips])
    torch.testing.assert_close(model.embed_audio(clips), theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.embed_audio(clips[0]), theirs[:1], atol=1e-5, rtol=0)
    assert model.embed_audio(noise(30_000)).isfinite().all()


def test_files_of_any_rate(folder, model, tmp_path):
    clip = noise(RATE).numpy()
    soundfile.write(tmp_path / "mono.wav", clip, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([clip, clip], 1), RATE, subtype="FLOAT")
    mono, stereo = model.embed_audio([tmp_path / "mono.wav", tmp_path / "stereo.wav"])
    torch.testing.assert_close(mono, theirs_audio(folder, torch.from_numpy(clip))[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(stereo, mono, atol=1e-5, rtol=0)


def test_classes_with_the_models_own_scale(folder, model):
    clap = transformers.ClapModel.from_pretrained(folder)
    labels = ["dog", "rain", "cat"]
    (scores,) = model.classify(noise(4000), labels)
    cosines = theirs_audio(folder, noise(4000)) @ model.embed_text([f"This is a sound of {x}." for x in labels]).T
    expected = (clap.logit_scale_a.exp() * cosines).softmax(1)[0]
    assert [score.label for score in scores] == [labels[i] for i in cosines[0].argsort(descending=True)]
    for score in scores:
        assert score.share == pytest.approx(expected[labels.index(score.label)].item(), abs=1e-5)


def test_what_it_says_of_itself(folder, model, tmp_path):
    assert (model.sample_rate, model.max_seconds, model.embedding_dim) == (RATE, 1.0, 12)
    assert slap.load(folder, device="cpu").name == model.name
    shutil.copytree(folder, tmp_path / "other")
    other = transformers.ClapModel.from_pretrained(folder)
    other.logit_scale_a.data += 1
    other.save_pretrained(tmp_path / "other")
    assert slap.load(tmp_path / "other", device="cpu").name != model.name


def test_what_it_cannot_do_says_so(model):
    with pytest.raises(ValueError, match="the model writes no captions, for it has no captioning objective"):
        model.caption(noise(4000))


def test_long_texts_are_cut_off(model):
    assert model.embed_text(["x" * 10_000]).isfinite().all()


def test_weights_that_are_no_safetensors_are_refused(folder, tmp_path):
    other = tmp_path / "pickled"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, other / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no weights as safetensors.*it has .*pytorch_model\.bin.*Convert them"):
        slap.load(other)


def test_a_folder_that_lacks_something_says_what(folder, tmp_path):
    other = tmp_path / "bare"
    other.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, other)
    with pytest.raises(ValueError, match="needs a feature extractor and a tokenizer beside the model"):
        slap.load(other)
    config = json.loads((folder / "config.json").read_text())
    config["audio_config"]["depths"], config["audio_config"]["num_attention_heads"] = [2, 4], [2, 2]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lacks weights, so they would stay random: audio_model"):
        slap.load(other)


def test_other_folders_are_not_taken_for_one(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ValueError, match="no model that is known here"):
        slap.load(tmp_path)


def test_it_is_evaluated_as_any_model(folder, model, tmp_path):
    from slap.cli.main import main

    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", noise(RATE, number).numpy(), RATE)
    (tmp_path / "mine.csv").write_text("audio,caption\n" + "".join(f'{n}.wav,"{TEXTS[n % 2]} {n}"\n' for n in range(4)))
    out = tmp_path / "results.json"
    command = ["evaluate", str(folder), "--tasks", "retrieval/mine", "--manifest", f"mine={tmp_path / 'mine.csv'}"]
    assert main([*command, "--out", str(out), "--no-plots"]) == 0
    record = json.loads(out.read_text())
    assert record["model"]["hash"] == model.name
    assert record["model"]["kind"] == "NetworkBackend"
    scores = model.similarity([tmp_path / f"{n}.wav" for n in range(4)], [f"{TEXTS[n % 2]} {n}" for n in range(4)])
    right = (scores.argmax(0) == torch.arange(4)).double().mean().item()
    assert record["results"][0]["metrics"]["t2a_R@1"]["value"] == pytest.approx(100 * right)
