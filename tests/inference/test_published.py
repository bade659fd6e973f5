"""Folders of published models that are not read are refused with the reason, and with what to do instead."""

import json

import pytest

import slap
from slap.core.errors import UserError


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", {"model_type": "pe_audio"}, "use `PeAudioModel` of transformers"),
        ("config.json", {"model_type": "pe_audio_video"}, "it is a pe_audio_video model"),
        ("config.json", {"model_type": "glap", "auto_map": {"AutoModel": "m.GLAP"}}, "no release of transformers has"),
        ("config.json", {"model_type": "x", "auto_map": {"AutoModel": "m.X"}}, r"code of its own \(`auto_map`\)"),
        ("config.json", {"model_type": "bert"}, "says model_type 'bert'; read are `slap`, `clap`"),
        ("open_clip_config.json", {"model_cfg": {}}, "a model of open_clip"),
        ("CLAP_weights_2023.pth", {}, "CLAP_weights_2023.pth is a pickle, .* `slap convert` reads those of LAION's"),
        ("notes.txt", {}, "nor of another library$"),
    ],
)
def test_a_folder_that_is_not_read_is_refused_with_the_reason(name, content, reason, tmp_path):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=reason):
        slap.load(tmp_path)


def test_a_checkpoint_of_another_package_is_sent_to_the_command_that_converts_it(tmp_path):
    (tmp_path / "630k-audioset-best.pt").write_bytes(b"x")
    with pytest.raises(UserError, match="`slap convert` makes a folder of"):
        slap.load(tmp_path / "630k-audioset-best.pt")
