"""The tokenizer: any unicode survives it, the same captions give the same bytes, and its errors help."""

import copy
import csv
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from slap.nn.tokenizer import SentencePieceTokenizer, train_tokenizer

CAPTIONS = ["A dog barks twice", "A man speaks, then a dog barks", "Rain falls on a tin roof", "Birds sing"] * 3
AUDIOCAPS = Path("../shared/data/audiocaps")

UNICODE = [
    "a dog 😀 barks 👩‍👩‍👧",
    "كلب ينبح ثم يتكلم رجل",
    "犬が二回吠える",
    "\u202eright to left override\u202c",
    "tab\tand\x00null",
    "<s> <unk> </s> are no commands",
    "x" * 10_000,
    "rain, " * 1667,
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, vocab_size=320)


def test_captions_come_back_in_lower_case_between_bos_and_eos(tokenizer):
    ids = tokenizer.encode(CAPTIONS)
    assert all(item[0] == tokenizer.bos == 1 and item[-1] == tokenizer.eos == 2 for item in ids)
    assert all(2 < piece < tokenizer.vocab_size for item in ids for piece in item[1:-1])
    assert tokenizer.decode(ids) == [caption.lower() for caption in CAPTIONS]


def test_frequent_words_become_single_pieces(tokenizer):
    """Merges are learned: a word of the corpus takes fewer tokens than a word as long that is not in it."""
    [dog], [strange] = tokenizer.encode(["barks"]), tokenizer.encode(["skrab"])
    assert len(dog) == 3 < len(strange)


@pytest.mark.parametrize("text", UNICODE, ids=lambda text: ascii(text)[:20])
def test_any_unicode_survives(tokenizer, text):
    [ids] = tokenizer.encode([text])
    assert 0 not in ids  # bytes stand in for unknown characters
    assert tokenizer.decode([ids]) == [" ".join(text.split())]


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\ufeff"])
def test_a_caption_without_text_is_bos_and_eos(tokenizer, text):
    assert tokenizer.encode([text]) == [[1, 2]]
    assert tokenizer.decode([[1, 2]]) == [""]


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        tokenizer.encode(["a \ud800 b"])


def test_truncation_keeps_the_beginning_and_eos(tokenizer):
    [whole] = tokenizer.encode(["rain falls on a tin roof"])
    assert tokenizer.encode(["rain falls on a tin roof"], max_tokens=5) == [[*whole[:4], 2]]
    assert tokenizer.encode(["rain falls on a tin roof"], max_tokens=len(whole)) == [whole]
    assert tokenizer.encode(["rain"], max_tokens=2) == [[1, 2]]


def test_decoding_leaves_out_specials_and_ids_without_a_piece(tokenizer):
    [ids] = tokenizer.encode(["birds sing"])
    assert tokenizer.decode([[0, 1, tokenizer.vocab_size, 10**6, -1, *ids, 2, 2]]) == ["birds sing"]


def test_training_is_deterministic_across_processes():
    """Processes of a distributed run train their own, so equality may not hang on Python's hash seed."""
    program = (
        "import sys; from slap.nn.tokenizer import train_tokenizer; from hashlib import sha256;"
        f"print(sha256(train_tokenizer({CAPTIONS!r}, vocab_size=320).proto).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def test_training_depends_on_the_captions():
    assert train_tokenizer(CAPTIONS, 320).proto != train_tokenizer([*CAPTIONS, "helicopter " * 9], 320).proto


def test_training_is_silent(capfd):
    train_tokenizer(CAPTIONS, 300)
    assert capfd.readouterr() == ("", "")


def test_only_the_first_captions_are_read():
    def endless():
        yield from CAPTIONS
        raise AssertionError("read on")

    assert train_tokenizer(endless(), 320, most=len(CAPTIONS)).proto == train_tokenizer(CAPTIONS, 320).proto


def test_captions_too_long_to_learn_from_are_passed_over():
    assert train_tokenizer(["z" * 70_000, *CAPTIONS, "  "], 320).proto == train_tokenizer(CAPTIONS, 320).proto


@pytest.mark.parametrize("captions", [[], ["", "  "], ["z" * 20_000]])
def test_nothing_to_learn_from(captions):
    with pytest.raises(ValueError, match="nothing to learn a tokenizer from"):
        train_tokenizer(captions)


def test_the_smallest_vocabulary_is_named_and_works():
    least = 3 + 256 + len(set("".join(CAPTIONS).lower()))
    with pytest.raises(ValueError, match=f"vocab_size 100 is too small: these captions need at least {least}"):
        train_tokenizer(CAPTIONS, 100)
    assert train_tokenizer(CAPTIONS, least).vocab_size == least


def test_few_captions_give_fewer_pieces():
    assert 259 < train_tokenizer(["a dog"], vocab_size=8000).vocab_size < 280


def test_an_error_of_the_captions_source_is_passed_on():
    def broken():
        yield "a dog"
        raise KeyError("row 2")

    with pytest.raises(KeyError, match="row 2"):
        train_tokenizer(broken())


def test_copies_and_files_hold_the_same_tokenizer(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "words.model")
    for other in (
        pickle.loads(pickle.dumps(tokenizer)),
        copy.deepcopy(tokenizer),
        SentencePieceTokenizer.load(tmp_path / "words.model"),
        SentencePieceTokenizer(tokenizer.proto),
    ):
        assert other.proto == tokenizer.proto
        assert other.encode(CAPTIONS) == tokenizer.encode(CAPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["words.model"]


def test_a_failed_write_leaves_the_old_file(tokenizer, tmp_path, monkeypatch):
    target = tmp_path / "words.model"
    target.write_bytes(b"old")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:9])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        tokenizer.save(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_are_no_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match="slap tokenizer MANIFEST"):
        SentencePieceTokenizer.load(tmp_path / "none.model")
    for content in (b"", b"garbage"):
        (tmp_path / "bad.model").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.model: these \d bytes are no sentencepiece model"):
            SentencePieceTokenizer.load(tmp_path / "bad.model")


@pytest.mark.skipif(not AUDIOCAPS.is_dir(), reason="needs ../shared/data/audiocaps")
def test_real_captions():
    """8,000 pieces from AudioCaps' training captions: unseen ones come back, at about a token a word."""

    def captions(name):
        with (AUDIOCAPS / name).open(encoding="utf-8", newline="") as file:
            return [row["caption"] for row in csv.DictReader(file)]

    tokenizer = train_tokenizer(captions("train.csv"))
    assert tokenizer.vocab_size == 8000
    unseen = captions("val.csv")
    ids = tokenizer.encode(unseen)
    assert tokenizer.decode(ids) == [" ".join(caption.lower().split()) for caption in unseen]
    words = sum(len(caption.split()) for caption in unseen)
    assert sum(len(item) - 2 for item in ids) < 1.25 * words  # pieces for commas among them
