"""A model in a notebook: it embeds files and texts without saving and loading, and can go on training."""

import pytest
import soundfile
import torch

import slap
from slap.testing.tiny import CAPTIONS

NANO = {"name": "transformer", "size": "nano"}


@pytest.fixture
def network():
    torch.manual_seed(0)
    small = {"layers": 1, "heads": 2, "width": 32, "hidden": 64}
    objectives = {"contrastive": 1.0, "captioning": small, "masked_distillation": {"prototypes": 8}}
    made = slap.SLAP(NANO, {**NANO, "vocab_size": 320}, objectives, embedding_dim=16)
    made.text.prepare(CAPTIONS)
    return made.train()


def test_files_and_texts_are_embedded_as_after_saving_and_loading(network, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, (torch.rand(22_050) - 0.5).numpy(), 22_050)
    live = network.as_model()
    live.save_pretrained(tmp_path / "saved", allow_collapsed=True)
    loaded = slap.load(tmp_path / "saved", "cpu")
    for what, given in (("embed_audio", [path]), ("embed_text", ["a dog barks"])):
        torch.testing.assert_close(getattr(live, what)(given), getattr(loaded, what)(given), rtol=0, atol=1e-5)
    assert live.caption(path, max_length=8) == loaded.caption(path, max_length=8)
    best = [model.classify(path, ["dog", "rain"])[0][0].label for model in (live, loaded)]
    assert best[0] == best[1]
    assert live.name == loaded.name


def test_the_network_stays_as_it_is_and_what_it_learns_shows(network):
    live, clip = network.as_model(), torch.rand(9_000) - 0.5
    before, name, state = live.embed_audio(clip), live.name, torch.get_rng_state()
    assert torch.equal(live.embed_audio(clip), before)  # without SpecAugment, though the network trains
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.training for part in network.audio.modules())
    assert all(parameter.requires_grad for parameter in network.audio.parameters())
    with torch.no_grad():
        network.audio_pool.query += 1
    assert not torch.allclose(live.embed_audio(clip), before)
    assert live.name != name
