"""Exported graphs give what the model gives, at any length, without this library."""

import shutil
import subprocess
import sys
from math import pi

import numpy as np
import pytest
import torch

import slap
from slap.cli.main import main
from slap.core.packed import Packed
from slap.inference.export import Side, graphs, write_onnx
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
    ],
    ids=lambda options: next(iter(options)),
)
def test_one_clip_by_itself_is_the_packed_encoder(options):
    audio = {"name": "transformer", "size": "nano", "window": 6, **options}
    network = SLAP(audio=audio, text={"name": "transformer", "size": "nano", "vocab_size": 300}).eval()
    if network.audio.level_embedding is not None:
        torch.nn.init.ones_(network.audio.level_embedding)
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
