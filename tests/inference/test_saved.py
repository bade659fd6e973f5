"""A saved model is the model, brings everything with it, runs no code, and is refused when it is not what was saved."""

import json
import os
import pickle
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

import slap
from slap.cli.main import main
from slap.core.calibration import Calibration
from slap.inference.collapse import complaint
from slap.inference.kept_card import card_of_folder
from slap.inference.model_card import Card
from slap.inference.saved_model import recognizes
from slap.testing.tiny import tiny_checkpoint

TEXTS = ["a dog barks", "rain falls"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return slap.load(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="module")
def original(folder, model):
    model.save_pretrained(folder / "original", Card("Barks", "cc-by-4.0", ["`train.csv`"], 1200))
    return folder / "original"


@pytest.fixture
def saved(original, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(original, tmp_path / "saved"))


@pytest.fixture(scope="module")
def audio():
    return torch.rand(50_000, generator=torch.Generator().manual_seed(0)) - 0.5


def test_what_is_loaded_is_what_was_saved(model, original, audio):
    again = slap.load(original, device="cpu")
    assert torch.equal(again.embed_audio(audio), model.embed_audio(audio))
    assert torch.equal(again.embed_text(TEXTS), model.embed_text(TEXTS))
    assert again.caption(audio, max_length=8) == model.caption(audio, max_length=8)
    assert (again.max_seconds, again.name, again.calibration) == (model.max_seconds, model.name, model.calibration)


def test_the_files_are_for_everyone(original, model):
    assert {path.name for path in original.iterdir()} == {
        "README.md", "config.json", "config_sentence_transformers.json", "model.safetensors", "modules.json",
        "tokenizer.model",
    }  # fmt: skip
    assert (original / "tokenizer.model").read_bytes() == model.backend.network.text.tokenizer.proto
    config = json.loads((original / "config.json").read_text())
    assert config["model_type"] == "slap"
    kept = {"row_embedding": True, "fill": "silence"}  # whatever later versions do by default
    assert config["arguments"]["audio"] == {"name": "transformer", "size": "nano", **kept}
    assert "audio_pool.query" in load_file(original / "model.safetensors")


def test_the_weights_have_the_mode_that_the_umask_gives(model, tmp_path):
    """safetensors makes files that only their owner reads, which a web server or a colleague cannot."""
    before = os.umask(0o027)
    try:
        model.save_pretrained(tmp_path / "saved")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "saved").iterdir()}
    assert modes == dict.fromkeys(modes, 0o640)


def test_a_fitted_calibration_is_saved_too(model, tmp_path):
    fitted = slap.Model(model.backend)
    fitted.calibration = Calibration("softmax", 12.5)
    fitted.save_pretrained(tmp_path / "fitted")
    assert slap.load(tmp_path / "fitted").calibration == Calibration("softmax", 12.5)


def test_saving_again_replaces_the_old_model(saved, tmp_path, audio):
    tiny_checkpoint(tmp_path / "other.ckpt", seed=1)
    other = slap.load(tmp_path / "other.ckpt", device="cpu")
    other.save_pretrained(saved)
    assert slap.load(saved).name == other.name


# -- the card ---------------------------------------------------------------------------------------------------------


def test_a_second_export_keeps_what_the_card_says(saved, tmp_path):
    """It stood there as of a model that nobody knows anything about, under no license."""
    readme = saved / "README.md"
    readme.write_text(readme.read_text().replace("## Use", "## What it knows\n\nDogs, *only* dogs.\n\n## Use"))
    assert main(["export", str(saved), str(tmp_path / "again"), "--precision", "float16"]) == 0
    first, second = readme.read_text(), (tmp_path / "again" / "README.md").read_text()
    stored = "| precision of the file | float16; loaded, and computed with, in float32 |\n"
    assert second.replace(stored, "") == first
    assert "license: cc-by-4.0" in second
    options = ["--overwrite", "--licence", "mit", "--name", "Howls"]
    assert main(["export", str(saved), str(tmp_path / "again"), *options]) == 0
    changed = (tmp_path / "again" / "README.md").read_text()
    assert changed == first.replace("cc-by-4.0", "mit").replace("# Barks", "# Howls")


@pytest.mark.parametrize("damage", ["link", "bytes", "size", "absent"])
def test_a_card_that_cannot_be_read_is_not_kept(saved, tmp_path, damage):
    readme = saved / "README.md"
    text = readme.read_text()
    readme.unlink()
    if damage == "link":
        (tmp_path / "secret.md").write_text(text)
        readme.symlink_to(tmp_path / "secret.md")
    elif damage != "absent":
        readme.write_bytes(b"# \xff" if damage == "bytes" else text.encode() + b" " * (1 << 20))
    card = card_of_folder(saved)
    assert (card.name, card.licence, card.kept) == ("saved", "not stated", {})


def test_the_card_says_what_is_known(original):
    text = (original / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "slap",
        "license": "cc-by-4.0",
        "pipeline_tag": "zero-shot-audio-classification",
        "tags": ["audio", "clap", "slap"],
    }
    for words in ("# Barks", "`train.csv`", "1200", "2 s; longer audio", "M parameters", 'slap.load("FOLDER")'):
        assert words in body


def test_the_card_of_a_run_has_its_data_and_figures_but_no_paths(tmp_path, model):
    options = {"recipe": "base", "data": {"train": ["/home/me/secret/train.csv"]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(options))
    result = {"value": 24.04, "low": 19.0, "high": 29.0, "chance": 0.3, "count": 300}
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    for name, content in (("test-1-best", b"weights"), ("test-1-last", b"others")):  # of another checkpoint
        (tmp_path / "test" / name).mkdir(parents=True)
        record = {"model": {"sha256": sha256(content).hexdigest()}, "metrics": {"t2a_R@1": result}}
        (tmp_path / "test" / name / "results.json").write_text(json.dumps(record))
    card = Card.of_run(tmp_path / "best.ckpt", 500)
    model.save_pretrained(tmp_path / "out", card)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| t2a_R@1 | 24.0 | 19.0 to 29.0 | 0.3 | 300 |" in text
    assert "recipe `base`" in text
    assert "`train.csv`" in text
    assert "secret" not in text
    assert "licence of the weights | not stated" in text


# -- what is refused --------------------------------------------------------------------------------------------------


def flip(path, offset=-100):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model"])
def test_flipped_bytes_are_found(saved, name):
    flip(saved / name)
    with pytest.raises(ValueError, match="checksum is wrong"):
        slap.load(saved)


def test_changed_arguments_are_found(saved):
    config = json.loads((saved / "config.json").read_text())
    config["arguments"]["text"]["max_tokens"] = 5
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="checksum is wrong"):
        slap.load(saved)
    assert slap.load(saved, trust=True).backend.network.text.max_tokens == 5


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.model"])
def test_links_out_of_the_folder_are_not_followed(saved, tmp_path, name):
    shutil.move(saved / name, tmp_path / name)
    (saved / name).symlink_to(tmp_path / name)
    with pytest.raises(ValueError, match="a link out of its folder"):
        slap.load(saved)
    slap.load(saved, trust=True)


def test_links_within_the_folder_are(saved):
    (saved / "model.safetensors").rename(saved / "blob")
    (saved / "model.safetensors").symlink_to("blob")
    slap.load(saved)


class Payload:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl"])
@pytest.mark.parametrize("trust", [False, True])
def test_pickles_are_not_read(saved, name, trust, capfd):
    (saved / "model.safetensors").unlink()
    (saved / name).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match=r"has no model\.safetensors; it has .*Weights are read from safetensors only"):
        slap.load(saved, trust=trust)
    shutil.copy(saved / name, saved / "model.safetensors")
    with pytest.raises(ValueError, match="damaged or no safetensors"):
        slap.load(saved, trust=trust)
    with pytest.raises(ValueError, match="no checkpoint"):
        slap.load(saved / name, trust=False)
    with pytest.raises(ValueError, match=r"more than tensors|damaged"):
        slap.load(saved / name, trust=True)
    assert "must not run" not in capfd.readouterr().out


def test_a_model_may_not_send_its_reader_elsewhere(saved):
    config = json.loads((saved / "config.json").read_text())
    config["arguments"]["text"]["tokenizer"] = "/etc/passwd"
    (saved / "config.json").write_text(json.dumps(config))
    for trust in (False, True):
        with pytest.raises(ValueError, match=r"names \{'tokenizer': '/etc/passwd'\}|checksum"):
            slap.load(saved, trust=trust)
    config["arguments"]["text"] = {"name": "modernbert", "pretrained": "someone/else"}
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="a saved model brings everything with it"):
        slap.load(saved, trust=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 2}, "format 2; this version reads 1"), ({"model_type": "other"}, "no model that is known here")],
)
def test_other_formats(saved, change, message):
    config = {**json.loads((saved / "config.json").read_text()), **change}
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        slap.load(saved)


def test_an_incomplete_config(saved):
    config = json.loads((saved / "config.json").read_text())
    del config["checksum"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lacks checksum"):
        slap.load(saved)


def test_missing_weights(saved):
    state = load_file(saved / "model.safetensors")
    del state["audio_pool.query"]
    save_file(state, saved / "model.safetensors")
    with pytest.raises(ValueError, match="checksum is wrong"):
        slap.load(saved)
    with pytest.raises(ValueError, match=r"missing are .*audio_pool"):
        slap.load(saved, trust=True)


def test_recognizing(saved, tmp_path):
    assert recognizes(saved)
    assert not recognizes(tmp_path)


# -- collapse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "what"), [("audio", "sounds"), ("text", "texts")])
def test_a_collapsed_model_is_not_saved_unless_told(side, what, tiny_checkpoint, tmp_path):
    model = slap.load(tiny_checkpoint, device="cpu")
    pool = getattr(model.backend.network, f"{side}_pool")
    pool.register_forward_hook(lambda module, inputs, output: normalize(output + 10, dim=1))
    with pytest.raises(
        ValueError, match=f"collapsed: even the most different of . varied {what} have a cosine of (0.99|1.0)"
    ):
        model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    model.save_pretrained(tmp_path / "out", allow_collapsed=True)
    assert recognizes(tmp_path / "out")


def test_a_dead_model_is_not_saved_either(tiny_checkpoint, tmp_path):
    content = torch.load(tiny_checkpoint, weights_only=True)
    content["state_dict"]["text_pool.project.weight"].zero_()
    torch.save(content, tmp_path / "dead.ckpt")
    with pytest.raises(ValueError, match="collapsed: 8 of 8 varied texts have no direction"):
        slap.load(tmp_path / "dead.ckpt", device="cpu").save_pretrained(tmp_path / "out")


def test_a_random_model_is_not_taken_for_collapsed(model):
    assert complaint(model) is None


# -- the hub ----------------------------------------------------------------------------------------------------------


def test_from_a_folder(original, model, audio):
    again = slap.Model.from_pretrained(original)
    assert torch.equal(again.embed_audio(audio), model.embed_audio(audio))


def test_pushing_uploads_the_saved_folder(model, monkeypatch, audio, tmp_path):
    calls = {}

    class Created:
        repo_id = "me/barks"

    def create(self, repo_id, **options):
        calls["create"] = (repo_id, options["private"])
        return Created

    def upload(self, *, repo_id, folder_path, commit_message, revision, **_):
        shutil.copytree(folder_path, tmp_path / "uploaded")
        calls["upload"] = (repo_id, commit_message, revision)
        return "the address"

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    assert model.push_to_hub("me/barks", Card("Barks"), private=True, commit_message="First") == "the address"
    assert calls == {"create": ("me/barks", True), "upload": ("me/barks", "First", None)}
    assert torch.equal(slap.load(tmp_path / "uploaded").embed_audio(audio), model.embed_audio(audio))
    assert "# Barks" in (tmp_path / "uploaded" / "README.md").read_text()


def test_from_the_hub_through_its_cache_of_links(original, model, monkeypatch, audio, tmp_path):
    """As huggingface_hub lays it out: a snapshot of links to blobs."""
    snapshot = tmp_path / "models--me--barks" / "snapshots" / "abc"
    blobs = tmp_path / "models--me--barks" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, path in enumerate(original.iterdir()):
        shutil.copy(path, blobs / str(i))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(i))
    asked = []
    monkeypatch.setattr(
        "slap.inference.hub.snapshot_download",
        lambda name, **options: asked.append((name, options["revision"], options["allow_patterns"])) or str(snapshot),
    )
    again = slap.Model.from_pretrained("me/barks", revision="v1")
    assert torch.equal(again.embed_audio(audio), model.embed_audio(audio))
    assert asked[0][:2] == ("me/barks", "v1")
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in asked[0][2])
