"""`slap tokenizer MANIFEST OUT`: the file is the tokenizer that training would learn, and errors help."""

import argparse
import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from slap.cli import tokenizer as command
from slap.cli.main import main
from slap.encoders.text_transformer import TextTransformer
from slap.nn.tokenizer import SentencePieceTokenizer, train_tokenizer

CAPTIONS = ["A dog barks twice", "Rain falls, on a tin roof", "Ein Vögelchen singt", "كلب"]


@pytest.fixture
def manifest(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("audio", "caption"), *(("a.wav", caption) for caption in CAPTIONS)])
    return tmp_path / "train.csv"


def test_it_writes_the_tokenizer_that_training_would_learn(manifest, tmp_path, capsys):
    out = tmp_path / "new" / "words.model"
    assert main(["tokenizer", str(manifest), str(out), "--vocab-size", "310"]) == 0
    expected = train_tokenizer(CAPTIONS, 310)
    assert SentencePieceTokenizer.load(out).proto == expected.proto
    mean = sum(len(ids) for ids in expected.encode(CAPTIONS)) / 4
    printed = capsys.readouterr()
    assert printed.out == (
        f"{out}: {expected.vocab_size} pieces from 4 captions, with {mean:.1f} tokens per caption on average, "
        "begin and end tokens included\n"
    )
    assert printed.err == ""
    model = TextTransformer(size="tiny", vocab_size=310, tokenizer=str(out))
    assert [item.tolist() for item in model.tokenize(CAPTIONS).unpack()] == expected.encode(CAPTIONS)


def test_json_lines_and_lists_of_captions(manifest, tmp_path):
    lines = tmp_path / "train.jsonl"
    lines.write_text(json.dumps({"audio": "a.wav", "caption": CAPTIONS}) + "\n", encoding="utf-8")
    for name in (manifest, lines):
        assert main(["tokenizer", str(name), str(tmp_path / f"{name.suffix}.model")]) == 0
    assert (tmp_path / ".csv.model").read_bytes() == (tmp_path / ".jsonl.model").read_bytes()


def test_the_default_fits_the_text_encoders_default():
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert parser.parse_args(["in.csv", "out.model"]).vocab_size == TextTransformer(size="tiny").vocab_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv", "words.model"], "none.csv: there is no such manifest"),
        (["train.csv", "."], r". is a folder; name the file to write, e.g. words.model"),
        (["train.csv", "words.model", "--vocab-size", "99"], r"vocab_size 99 is too small: .* need at least 2\d\d"),
        (["words.txt", "words.model"], r"a manifest ends in .csv"),
    ],
)
def test_errors_for_people(manifest, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["tokenizer", *arguments]) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err)
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not (tmp_path / "words.model").exists()


def test_its_help_is_quick_and_has_an_example(capsys):
    """`slap --help` reads the first line of each command without importing it; its own help imports it."""
    program = (
        "import sys; from slap.cli.main import main\n"
        "try: main(['tokenizer', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'lhotse', 'sentencepiece'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "slap tokenizer train.csv words.model" in printed
    assert printed.splitlines()[-1] == "[]"
