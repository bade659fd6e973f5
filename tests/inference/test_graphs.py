"""Exported graphs give what the model gives, at any length, without this library, and by `slap.onnx` without torch."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from math import pi
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import slap
import slap.onnx
from slap.cli.main import main
from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.inference.export import Side, graphs, write_onnx
from slap.inference.graph_record import checksum
from slap.inference.network_backend import NetworkBackend
from slap.testing.tiny import tiny_checkpoint, tiny_model
from slap.training.module import SLAP

onnxruntime = pytest.importorskip("onnxruntime")

RATE = 16_000
LENGTHS = (1, 2, 255, 257, 2559, 2560, 2561, 50_001)
"""Below, at and above half a window, a patch, and many of them."""

MODERNBERT = {
    "name": "modernbert",
    "config": {
        "num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 300,
        "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
        "local_attention": 8,
    },
}  # fmt: skip


def sounds():
    """Noise of many lengths, and what is hard on a spectrum: silence, and a loud tone alone."""
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(length, generator=generator) - 0.5 for length in LENGTHS]
    time = torch.arange(20_000) / RATE
    return [*noise, torch.zeros(9000), torch.sin(2 * pi * 1000 * time)]


def embedded(network, clip):
    with torch.no_grad():
        return network.embed_audio(Packed.pack([clip]))[0]


def text_embedded(network, tokens):
    with torch.no_grad():
        return network.embed_text(Packed.pack([tokens]))[0]


def texts(vocabulary):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(vocabulary, (length,), generator=generator) for length in (1, 2, 9, 130)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder that the command wrote, with both kinds of graphs."""
    folder = tmp_path_factory.mktemp("graphs")
    tiny_checkpoint(folder / "model.ckpt")
    assert main(["export", str(folder / "model.ckpt"), str(folder / "out"), "--onnx", "--torch"]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def network(exported):
    return slap.load(exported, device="cpu").backend.network


@pytest.mark.parametrize(
    "options",
    [
        {"local": 0},
        {"bands": 32},
        {"patch": [4, 64]},
        {"row_embedding": False},
        {"fill": "mean"},
        {"level": "rms"},
        {"level": "rms_feature"},
        {"clip_times": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_one_clip_by_itself_is_the_packed_encoder(options):
    audio = {"name": "transformer", "size": "nano", "window": 6, **options}
    network = SLAP(audio=audio, text={"name": "transformer", "size": "nano", "vocab_size": 300}).eval()
    if network.audio.level_embedding is not None:
        torch.nn.init.ones_(network.audio.level_embedding)
    if network.audio.clip_times is not None:
        torch.nn.init.normal_(network.audio.clip_times.project.weight)
    side = Side(network.audio.graph(), network.audio_pool)
    for clip in sounds():
        with torch.no_grad():
            torch.testing.assert_close(side(clip), embedded(network, clip), rtol=0, atol=1e-5)


def test_onnx_audio(exported, network):
    session = onnxruntime.InferenceSession(exported / "audio.onnx")
    for clip in sounds():
        (found,) = session.run(["audio_embedding"], {"samples": clip.numpy()})
        np.testing.assert_allclose(found, embedded(network, clip), rtol=0, atol=1e-4)


def test_onnx_text(exported, network):
    session = onnxruntime.InferenceSession(exported / "text.onnx")
    for tokens in [*texts(320), *network.text.tokenize(["a dog barks", ""]).unpack()]:
        (found,) = session.run(["text_embedding"], {"tokens": tokens.numpy()})
        np.testing.assert_allclose(found, text_embedded(network, tokens), rtol=0, atol=1e-4)


def test_one_text_with_absolute_positions_is_the_packed_encoder():
    text = {"name": "transformer", "size": "nano", "vocab_size": 300, "absolute_positions": True}
    network = SLAP(audio={"name": "transformer", "size": "nano"}, text=text).eval()
    side = Side(network.text.graph(), network.text_pool)
    for tokens in (text[: network.text.max_tokens] for text in texts(300)):
        with torch.no_grad():
            torch.testing.assert_close(side(tokens), text_embedded(network, tokens), rtol=0, atol=1e-5)


def test_programs_run_without_the_library(exported, network, tmp_path):
    clips = sounds()
    torch.save(clips, tmp_path / "clips.pt")
    code = (
        "import sys, torch\n"
        f"audio = torch.export.load({str(exported / 'audio.pt2')!r}).module()\n"
        f"found = [audio(clip) for clip in torch.load({str(tmp_path / 'clips.pt')!r})]\n"
        f"torch.save(found, {str(tmp_path / 'found.pt')!r})\n"
        "assert not any(name.split('.')[0] == 'slap' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    for clip, found in zip(clips, torch.load(tmp_path / "found.pt"), strict=True):
        torch.testing.assert_close(found, embedded(network, clip), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_modernbert_as_a_graph(tmp_path):
    pytest.importorskip("transformers")
    network = SLAP(audio={"name": "transformer", "size": "nano"}, text=MODERNBERT, embedding_dim=16).eval()
    model = slap.Model(NetworkBackend(network, {}))
    programs = graphs(model, ["text"])
    program = programs["text"].module()
    write_onnx(programs, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "text.onnx")
    for tokens in texts(300):
        expected = text_embedded(network, tokens)
        torch.testing.assert_close(program(tokens), expected, rtol=0, atol=1e-5)
        (found,) = session.run(None, {"tokens": tokens.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_an_encoder_without_a_graph_says_so():
    with pytest.raises(NotImplementedError, match="TinyAudio has no `graph`"):
        graphs(slap.Model(NetworkBackend(tiny_model(), {})))


def test_the_folder_still_loads_beside_its_graphs(exported, tmp_path):
    assert {path.name for path in exported.iterdir()} >= {"audio.onnx", "text.onnx", "audio.pt2", "text.pt2"}
    shutil.copytree(exported, tmp_path / "copy")
    assert slap.load(tmp_path / "copy").name == slap.load(exported).name


# -- slap.onnx --------------------------------------------------------------------------------------------------------

PACKAGE = Path(__file__).parents[2] / "packages/slap-onnx/pyproject.toml"
TEXTS = ["a dog barks", "Heavy RAIN, ünïcode 😀", "word " * 300]
ABSENT = ("torch", "torchaudio", "lightning", "lhotse", "transformers", "safetensors", "torchmetrics", "tqdm", "scipy")
WITHOUT = f"""
import json, sys
sys.modules.update(dict.fromkeys({ABSENT!r}))  # importing one raises ImportError
import numpy as np, slap, slap.onnx
folder, out, *files = sys.argv[1:]
model = slap.onnx.load(folder, threads=1)
rows = {{"audio": model.embed_audio(files), "text": model.embed_text({TEXTS!r})}}
np.savez(out, **rows)
used = sorted(name for name in sys.modules if name.split(".")[0] == "slap")
print(json.dumps([used, model.name, [score.label for score in model.classify(files[0], ["rain", "dog"])[0]]]))
"""


def write_sounds(folder):
    """Files of 0.1 s to 25 windows, of rates above and below the model's and equal to it."""
    rng = np.random.default_rng(0)
    paths = []
    for seconds, rate, channels, ending in (
        (0.1, RATE, 1, "wav"), (0.1, 8000, 1, "wav"), (3.3, 44_100, 2, "flac"), (2.0, 48_000, 1, "ogg"),
        (50.0, RATE, 1, "flac"), (31.0, 22_050, 1, "wav"),
    ):  # fmt: skip
        paths.append(str(folder / f"{len(paths)}.{ending}"))
        soundfile.write(paths[-1], rng.uniform(-0.4, 0.4, (round(seconds * rate), channels)), rate)
    return paths


def test_without_torch(exported, tmp_path):
    """A process in which nothing of torch can be imported, of the modules that slap-onnx installs alone."""
    files, found = write_sounds(tmp_path), tmp_path / "found.npz"
    command = [sys.executable, "-c", WITHOUT, str(exported), str(found), *files]
    run = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    model = slap.load(exported, device="cpu")
    used, name, labels = json.loads(run.stdout)
    with np.load(found) as rows:
        np.testing.assert_allclose(rows["audio"], model.embed_audio(files), rtol=0, atol=1e-4)
        np.testing.assert_allclose(rows["text"], model.embed_text(TEXTS), rtol=0, atol=1e-4)
    assert name == model.name
    assert labels == [score.label for score in model.classify(files[0], ["rain", "dog"])[0]]
    built = tomllib.loads(PACKAGE.read_text())["tool"]["setuptools"]
    whole, listed = built["packages"], built["py-modules"]
    packages = {*whole, *(module.rpartition(".")[0] for module in listed)}
    missing = [one for one in used if one not in {*packages, *listed} and one.rpartition(".")[0] not in whole]
    assert not missing, f"list them in {PACKAGE}"


def test_the_two_distributions_have_one_version():
    texts = (PACKAGE.read_text(), (PACKAGE.parents[2] / "pyproject.toml").read_text())
    assert len({tomllib.loads(text)["project"]["version"] for text in texts}) == 1


@pytest.mark.slow
def test_an_hour_is_embedded_window_by_window(exported, monkeypatch):
    """As `slap.load` does; the graph is replaced, so that it takes no minutes."""
    model, network = slap.onnx.load(exported), slap.load(exported, device="cpu")

    def encode(clips):
        moments = np.array([[clip.mean(), np.abs(clip).mean(), clip[0], clip[-1]] for clip in clips], np.float32)
        rows = np.tile(moments, (1, model.embedding_dim // 4))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    hour = np.sin(np.arange(3600 * RATE, dtype=np.float32) / 3e6) * np.float32(0.5) + np.float32(0.1)
    monkeypatch.setattr(model, "_encode", lambda clips: list(encode(clips)))

    def encode_tensors(clips):
        return torch.from_numpy(encode([clip.numpy() for clip in clips]))

    monkeypatch.setattr(network.backend, "encode_audio", encode_tensors)
    found, expected = model.embed_audio((hour, RATE)), network.embed_audio((hour, RATE))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_onnx_models_rank_and_warn_as_others_do(exported, caplog):
    model, network = slap.onnx.load(exported), slap.load(exported, device="cpu")
    noise = (np.random.default_rng(1).uniform(-0.5, 0.5, 9000).astype(np.float32), RATE)
    silence = (np.zeros(9000, np.float32), RATE)
    found, expected = (one.classify([noise, silence], ["dog", "rain"]) for one in (model, network))
    assert [score.label for score in found[0]] == [score.label for score in expected[0]]
    for one, other in zip(found[0], expected[0], strict=True):
        assert (one.cosine, one.probability) == pytest.approx((other.cosine, other.probability), abs=1e-4)
    assert found[1] == expected[1] == []
    assert "it is silent" in caplog.text
    assert model.embed_audio([]).shape == (0, network.embedding_dim)
    np.testing.assert_allclose(model.similarity(noise, "dog"), network.similarity(noise, "dog"), atol=1e-4)
    for call in (lambda: model.embed_text(""), lambda: model.classify(noise, []), lambda: model.embed_audio("no.wav")):
        with pytest.raises(UserError):
            call()


@pytest.fixture
def copy(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def edit_record(folder, **values):
    content = {**json.loads((folder / "graphs.json").read_text()), **values}
    content.pop("checksum")
    (folder / "graphs.json").write_text(json.dumps({**content, "checksum": checksum(content)}))


def test_changed_files_are_refused(copy):
    for name in ("audio.onnx", "text.onnx", "tokenizer.model"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match=f"{name} is not what was exported .* its checksum is wrong"):
            slap.onnx.load(copy)
        (copy / name).write_bytes(content)
    record = (copy / "graphs.json").read_text()
    (copy / "graphs.json").write_text(record.replace('"max_tokens": 128', '"max_tokens": 64'))
    with pytest.raises(UserError, match=r"graphs\.json is not what was written: its checksum is wrong"):
        slap.onnx.load(copy)
    assert slap.onnx.load(copy, trust=True).record.text.max_tokens == 64


def test_links_and_missing_files_are_refused(copy, tmp_path):
    for name in ("graphs.json", "text.onnx", "tokenizer.model"):
        (copy / name).rename(tmp_path / name)
        with pytest.raises(UserError, match=name):
            slap.onnx.load(copy)
        (copy / name).symlink_to(tmp_path / name)
        with pytest.raises(UserError, match=f"{name} is a link out of its folder"):
            slap.onnx.load(copy)
        (copy / name).unlink()
        (tmp_path / name).rename(copy / name)
    with pytest.raises(UserError, match="there is no folder"):
        slap.onnx.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no provider NoSuchProvider here; it has .*CPUExecutionProvider"):
        slap.onnx.load(copy, providers=["NoSuchProvider"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"sample_rate": 10**12}, "sample_rate must be a whole number of 100 to 768000"),
        ({"max_seconds": 1e12}, "max_seconds is 1"),
        ({"max_seconds": float("nan")}, "is damaged"),
        ({"embedding_dim": "8"}, "embedding_dim must be"),
        (
            {"text": {"tokenizer": "../tokenizer.model", "bos": 1, "eos": 2, "max_tokens": 9}},
            "tokenizer's file must",
        ),
        ({"text": {"tokenizer": "tokenizer.model", "bos": 2, "eos": 1, "max_tokens": 9}}, "begins and ends texts with"),
        ({"text": {"tokenizer": "tokenizer.model", "bos": 1, "eos": 2, "max_tokens": 1}}, "max_tokens must be"),
        ({"calibration": {"kind": "exec", "scale": 1.0, "bias": 0.0}}, "it is no calibration"),
        ({"inputs": {"audio": "tokens", "text": "tokens"}}, "has inputs and outputs"),
        ({"files": ["audio.onnx"]}, "is damaged"),
        ({"padding": "x" * (1 << 20)}, "a record has 1048576 at most"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_record_of_absurd_values_is_refused(copy, values, message):
    edit_record(copy, **values)
    with pytest.raises(UserError, match=message):
        slap.onnx.load(copy)


def test_a_graph_that_names_other_files_is_refused(copy, tmp_path):
    """onnxruntime would read them, wherever they lie below the working directory."""
    onnx = pytest.importorskip("onnx")
    from hashlib import sha256

    graph = onnx.load(copy / "text.onnx")
    onnx.save(graph, tmp_path / "text.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    content = (tmp_path / "text.onnx").read_bytes()
    (copy / "text.onnx").write_bytes(content)
    files = json.loads((copy / "graphs.json").read_text())["files"]
    edit_record(copy, files={**files, "text.onnx": sha256(content).hexdigest()})
    with pytest.raises(UserError, match=r"text\.onnx names other files for its weights"):
        slap.onnx.load(copy)


def test_a_file_that_is_no_graph_is_refused(copy):
    (copy / "audio.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"audio\.onnx cannot be run by onnxruntime"):
        slap.onnx.load(copy, trust=True)


def test_the_card_and_the_record_say_how_to_use_the_graphs(exported, network):
    card = (exported / "README.md").read_text()
    model, text = slap.load(exported, device="cpu"), network.text
    window = round(model.max_seconds * RATE)
    assert f"`samples`, (samples,) float32 in -1 to 1: mono at {RATE} Hz, 1 to {window} samples" in card
    assert f"`tokens`, (tokens,) int64: {text.bos} begins a text, {text.eos} ends it" in card
    assert f"at most {text.max_tokens} in all" in card
    record = json.loads((exported / "graphs.json").read_text())
    assert set(record["files"]) == {"audio.onnx", "text.onnx", "audio.pt2", "text.pt2", "tokenizer.model"}


def test_graphs_of_a_model_that_is_replaced_are_removed(copy, tiny_checkpoint):
    """Another model's audio.onnx stayed beside the new weights, and was listed as its own."""
    assert main(["export", str(tiny_checkpoint), str(copy), "--overwrite"]) == 0
    assert {path.name for path in copy.iterdir()} == {
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.model",
    }
    with pytest.raises(UserError, match=r"has no graphs\.json, so it holds no graphs"):
        slap.onnx.load(copy)
