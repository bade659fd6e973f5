"""A published CLAP model, whole: fine-tuned, exported, as graphs, and back into the library that it came from."""

import json

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import clap_folders
import slap
import slap.onnx
from slap.cli.main import main
from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.inference.export import Side, graphs
from slap.recipes import finetune
from slap.testing.tiny import tiny_checkpoint

transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")

RATE = clap_folders.RATE
TEXTS = clap_folders.TEXTS
LENGTHS = (1, 500, 2_700, 4_001, 8_000, 8_001, 20_500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clap")
    clap_folders.save(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return slap.load(folder, device="cpu")


def noise(samples, seed=0):
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def theirs(folder, clips):
    """Logits and embeddings of `ClapModel` by itself, for clips that it takes whole."""
    clap, processor = (kind.from_pretrained(folder) for kind in (transformers.ClapModel, transformers.ClapProcessor))
    sounds = processor.feature_extractor([c.numpy() for c in clips], sampling_rate=RATE, return_tensors="pt")
    tokens = processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return clap.eval()(input_features=sounds.input_features.float(), is_longer=sounds.is_longer, **inputs)


def test_back_into_transformers(folder, model, tmp_path):
    out = tmp_path / "back"
    command = ["export", str(folder), str(out), "--format", "transformers", "--licence", "cc0-1.0"]
    assert main(command) == 0
    clips = [noise(n, seed=n) for n in LENGTHS if n <= RATE]
    before, after = theirs(folder, clips), theirs(out, clips)
    for name in ("audio_embeds", "text_embeds", "logits_per_audio"):
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=1e-6)
    # One scale, that of LAION's loss.
    torch.testing.assert_close(after.logits_per_text, after.logits_per_audio.T)
    torch.testing.assert_close(after.audio_embeds, model.embed_audio(clips), atol=1e-5, rtol=0)
    old, new = (transformers.AutoTokenizer.from_pretrained(path) for path in (folder, out))
    assert new(TEXTS)["input_ids"] == old(TEXTS)["input_ids"]
    assert new.special_tokens_map == {name: old.special_tokens_map[name] for name in new.special_tokens_map}
    assert slap.load(out, device="cpu").name == model.name
    card = (out / "README.md").read_text()
    assert "license: cc0-1.0" in card
    assert "ClapModel.from_pretrained" in card
    assert main(command) == 2
    assert main([*command, "--overwrite"]) == 0


def test_export_in_slaps_own_format(folder, model, tmp_path):
    assert main(["export", str(folder), str(tmp_path / "own")]) == 0
    same = slap.load(tmp_path / "own", device="cpu")
    assert same.name == model.name
    clips = [noise(n, seed=n) for n in LENGTHS]
    assert torch.equal(same.embed_audio(clips), model.embed_audio(clips))
    assert torch.equal(same.embed_text(TEXTS), model.embed_text(TEXTS))
    assert same.calibration == model.calibration


def test_models_of_other_encoders_have_no_place_in_transformers(tmp_path, capsys):
    tiny_checkpoint(tmp_path / "tiny.ckpt")
    assert main(["export", str(tmp_path / "tiny.ckpt"), str(tmp_path / "out"), "--format", "transformers"]) == 2
    assert "the format of transformers has no place for this model" in capsys.readouterr().err


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_one_clip_by_itself_is_the_packed_encoder(model, padding, tmp_path):
    clap_folders.save(tmp_path, extractor={"padding": padding})
    network = slap.load(tmp_path, device="cpu").backend.network
    side = Side(network.audio.graph(), network.audio_pool)
    for n in LENGTHS:
        clip = noise(n, seed=n)
        with torch.no_grad():
            torch.testing.assert_close(side(clip), network.embed_audio(Packed.pack([clip]))[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_graphs(folder, model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert main(["export", str(folder), str(tmp_path / "out"), "--onnx"]) == 0
    audio, text = (onnxruntime.InferenceSession(tmp_path / "out" / f"{side}.onnx") for side in ("audio", "text"))
    programs = {side: program.module() for side, program in graphs(model).items()}
    network = model.backend.network
    for n in LENGTHS:
        clip = noise(n, seed=n)
        with torch.no_grad():
            expected = network.embed_audio(Packed.pack([clip]))[0]
        torch.testing.assert_close(programs["audio"](clip), expected, rtol=0, atol=1e-5)
        (found,) = audio.run(["audio_embedding"], {"samples": clip.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    for words in ["", *TEXTS]:
        tokens = network.text.tokenize([words]).values
        expected = model.embed_text(words)[0] if words else programs["text"](tokens)
        (found,) = text.run(["text_embedding"], {"tokens": tokens.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slap", "transformers"])
def test_without_torch(folder, model, tmp_path, kind):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    assert main(["export", str(folder), str(out), "--onnx", "--format", kind]) == 0
    light = slap.onnx.load(out)
    clips = [noise(n, seed=n) for n in LENGTHS]
    np.testing.assert_allclose(light.embed_audio(clips), model.embed_audio(clips), rtol=0, atol=1e-4)
    np.testing.assert_allclose(light.embed_text(TEXTS), model.embed_text(TEXTS), rtol=0, atol=1e-4)
    assert (light.name, light.calibration) == (model.name, model.calibration)
    assert "int64: 0 begins a text" in (out / "README.md").read_text()
    assert main(["export", str(folder), str(out), "--format", kind, "--overwrite"]) == 0
    assert not [*out.glob("*.onnx"), *out.glob("graphs.json")]
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {(out / "README.md").stat().st_mode & 0o777}


# -- fine-tuning ------------------------------------------------------------------------------------------------------


def test_fine_tuning_begins_as_the_published_model(folder, model):
    begun = finetune.model(start=str(folder)).eval()
    network = model.backend.network
    state = network.state_dict()
    assert {name: value.shape for name, value in begun.state_dict().items() if name in state} == {
        name: value.shape for name, value in state.items()
    }
    assert all(torch.equal(begun.state_dict()[name], value) for name, value in state.items())
    assert begun.as_model().embed_text(TEXTS).equal(model.embed_text(TEXTS))
    assert begun.objectives["contrastive"].log_scale.item() == network.objectives["contrastive"].log_scale.item()


@pytest.fixture(scope="module")
def tuned(folder, tmp_path_factory):
    """The run of a few steps on pairs of one's own, by the command."""
    work = tmp_path_factory.mktemp("tuned")
    for number in range(8):
        soundfile.write(work / f"{number}.wav", noise(RATE + 4_000 * number, number).numpy(), RATE)
    rows = "".join(f'{n}.wav,"{TEXTS[n % 3]} {n}"\n' for n in range(8))
    (work / "pairs.csv").write_text("audio,caption\n" + rows)
    table = f"[{work / 'pairs.csv'}]"
    options = {
        "model.start": folder, "model.warmup_steps": 1, "model.lr": 1e-2, "data.train": table, "data.val": table,
        "data.num_workers": 0, "trainer.out": work / "run", "trainer.max_steps": 2, "trainer.val_check_interval": 1,
        "trainer.accelerator": "cpu",
    }  # fmt: skip
    command = ["fit", "--recipe", "finetune", *(f"--{name}={value}" for name, value in options.items())]
    assert main(command) in (None, 0)
    return work


def test_it_learns_in_all_its_parts_and_goes_back(folder, tuned, tmp_path):
    last = next((tuned / "run").glob("last*.ckpt"))
    assert main(["export", str(last), str(tmp_path / "back"), "--format", "transformers", "--allow-collapsed"]) == 0
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "back"))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    unchanged = {name.rpartition(".")[2] for name in set(after) - changed}
    assert unchanged <= {"relative_position_index", "running_mean", "running_var", "num_batches_tracked"} | {
        "position_ids",
        "token_type_ids",
    }
    assert {"logit_scale_a", "audio_projection.linear2.bias", "text_projection.linear1.weight"} <= changed
    clips = [noise(n, seed=n) for n in (500, 8_000)]
    mine = slap.load(last, device="cpu")
    found = theirs(tmp_path / "back", clips).audio_embeds
    torch.testing.assert_close(found, mine.embed_audio(clips), atol=1e-5, rtol=0)


def test_pretrained_with_a_random_projection_is_refused(folder):
    spec = {"name": "hf-clap", "pretrained": str(folder), "projection": True}
    with pytest.raises(UserError, match="its projection would be random: begin from the whole model"):
        slap.SLAP(audio=spec, text={"name": "transformer", "size": "nano"})


def test_a_projection_of_another_dimension_is_refused(folder):
    arguments = json.loads(json.dumps(slap.load(folder, device="cpu").backend.arguments))
    with pytest.raises(UserError, match=r"goes from 32 to 12 dimensions, .* embedding_dim is 64"):
        slap.SLAP(**{**arguments, "embedding_dim": 64})
    with pytest.raises(UserError, match="hears no durations"):
        slap.SLAP(**{**arguments, "pool_duration": True})
