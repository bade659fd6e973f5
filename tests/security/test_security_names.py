r"""Canaries for the promise of SECURITY.md that names in files of others cannot steer a terminal, a page or a card.

A file may be called `a\x1b[2J.wav`, `a\nslap: all is well.wav`, or have marks that turn the direction of writing.
"""

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

import slap
from slap.cli.main import main
from slap.core.errors import PrintableFormatter, printable, printable_lines, printable_text
from slap.inference.model_card import Card, code, plain

EVIL = "rain\x1b[2J\u202egpj\nslap: all is well.wav"
SHOWN = r"rain\x1b[2J\u202egpj\nslap: all is well.wav"
STEERING = ("\x1b", "\u202e", "\nslap: all is well")


def test_what_printable_escapes() -> None:
    assert printable(EVIL) == SHOWN
    assert printable("\u061c\u200e\u2066\x00\x7f\x9b") == r"\u061c\u200e\u2066\x00\x7f\x9b"
    assert printable("Vögel, 鳥, مطر 😀") == "Vögel, 鳥, مطر 😀"
    assert printable_lines(f"no file {EVIL}") == "no file rain\\x1b[2J\\u202egpj\n  slap: all is well.wav"
    assert printable_text("a\nb\x07") == "a\nb\\x07"


def test_log_messages_escape_their_arguments() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter())
    error = ValueError(f"damaged: {EVIL}")
    several = ("%s: %d clips of %.1f s: %s", (Path(EVIL), 3, np.float32(0.5), error))
    for message, arguments in (several, (f"{EVIL} is odd", ())):
        handler.handle(logging.LogRecord("slap", logging.WARNING, "", 0, message, arguments, None))
    said = stream.getvalue()
    assert not any(mark in said for mark in STEERING)
    assert f"{SHOWN}: 3 clips of 0.5 s: damaged: {SHOWN}" in said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "good.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 8000), 8000)
    (tmp_path / "sounds").mkdir()
    (tmp_path / "good.wav").rename(tmp_path / "sounds" / EVIL)
    (tmp_path / "sounds" / f"empty {EVIL}").write_bytes(b"")
    return tmp_path / "sounds"


@pytest.mark.parametrize("command", ["classify", "caption", "index"])
def test_commands_print_no_name_as_it_is(
    folder: Path, tiny_checkpoint: Path, command: str, capfd: pytest.CaptureFixture
) -> None:
    more = {"classify": ["--labels", "dog", "rain"], "caption": [], "index": [str(folder.parent / "index")]}[command]
    sources = [str(folder)] if command == "index" else [str(folder / EVIL), str(folder / f"empty {EVIL}")]
    main([command, str(tiny_checkpoint), *sources, *more])
    said = capfd.readouterr()
    assert not any(mark in said.out + said.err for mark in STEERING)
    assert r"rain\x1b[2J" in said.out + said.err


def test_errors_print_no_name_as_it_is(folder: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["test", "--recipe", "demo", "--trainer.out", str(folder.parent / "out")]
    command += ["--data.folder", str(folder.parent / "corpus"), "--data.train", "2", "--data.val", "2"]
    assert main([*command, "--ckpt_path", str(folder / f"{EVIL}.ckpt")]) == 2
    said = capsys.readouterr().err
    assert "there is no checkpoint" in said
    assert not any(mark in said for mark in STEERING)


def test_markdown_of_a_card_is_text() -> None:
    assert code("a`b``c|d\n# e") == "``` a`b``c\\|d\\n# e ```"
    assert plain("# <img onerror=y> | [a](b)") == r"\# \<img onerror=y\> \| \[a\](b)"


def test_a_card_shows_what_a_config_names(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps({"recipe": "x`\n# y", "data": {"train": ["a`|<b>.csv"]}}))
    card = Card.of_run(tmp_path / "last.ckpt", 3)
    slap.load(tiny_checkpoint).save_pretrained(tmp_path / "saved", card, allow_collapsed=True)
    text = (tmp_path / "saved" / "README.md").read_text()
    assert "\n# y" not in text
    assert "- `` a`\\|<b>.csv ``" in text


def test_the_page_gets_no_name_as_it_is() -> None:
    app = pytest.importorskip("slap.search.web.app", reason="needs the extra `search`")
    from slap.search.query import Hit

    answer = bytes(app._hits([Hit(1, 0.5, "a" * 16, f"sounds/{EVIL}", 0.0, 1.0, 2.0)], {"top": 2}).body).decode()
    assert json.loads(answer)["hits"][0]["path"] == f"sounds/{SHOWN}"
