"""Hits: duplicates folded into one, the next ones after those that were seen, thresholds, and re-ranking."""

import numpy as np
import pytest
import soundfile
import torch

from slap.core.calibration import Calibration
from slap.search import Index
from slap.search.rerank import combined, reranked


@pytest.fixture
def index(sounds):
    """Tones of 300 to 2700 Hz; of that of 600 Hz a copy, one in another format, and one that sounds almost like it."""
    for i in range(9):
        sounds.tone(f"tone{i}.wav", 300 * (i + 1))
    samples, rate = soundfile.read(sounds.folder / "tone1.wav", dtype="int16")
    (sounds.folder / "copies").mkdir()
    (sounds.folder / "copies/same.wav").write_bytes((sounds.folder / "tone1.wav").read_bytes())
    soundfile.write(sounds.folder / "copies/other.flac", samples, rate)
    quiet = samples / 2**15 + 0.004 * np.sin(2 * np.pi * 5000 * np.arange(len(samples)) / rate)
    soundfile.write(sounds.folder / "copies/almost.wav", quiet, rate, subtype="FLOAT")
    sounds.update()
    return Index.open(sounds.index)


def paths(hits):
    return [hit.path for hit in hits]


def test_duplicates_are_one_hit(index):
    (hits,) = index.text(["600"], top=3)
    first = {hits[0].path, *hits[0].alike}
    assert first == {"tone1.wav", "copies/same.wav", "copies/other.flac"}
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert paths(hits)[1] == "copies/almost.wav"
    (hits,) = index.text(["600"], top=3, alike=0.99)
    assert {hits[0].path, *hits[0].alike} == {*first, "copies/almost.wav"}
    (hits,) = index.text(["600"], top=4, alike=2.0)  # only equal content
    assert sorted(len(hit.alike) for hit in hits) == [0, 0, 0, 1]
    (hits,) = index.text(["600"], top=20, alike=None)
    assert (len(hits), {hit.alike for hit in hits}) == (12, {()})
    assert {*paths(hits)[:4]} == {*first, "copies/almost.wav"}


def test_the_next_hits_follow_those_that_were_seen(index):
    (every,) = index.text(["600 1500"], top=20)
    assert len(every) == 10
    pages = [index.text(["600 1500"], top=4, offset=offset)[0] for offset in (0, 4, 8, 12)]
    assert [hit for page in pages for hit in page] == every
    assert [len(page) for page in pages] == [4, 4, 2, 0]
    liked = index.like(every[0].id, 0.0, top=4)
    assert index.like(every[0].id, 0.0, top=2, offset=2) == liked[2:]
    for wrong in ({"offset": -1}, {"offset": 995}, {"top": 0}):
        with pytest.raises(ValueError, match="from 1 to 1000 results can be asked for"):
            index.text(["600"], **wrong)


def test_a_threshold_may_leave_nothing(index):
    with pytest.raises(ValueError, match=r"a threshold needs a probability of each text by itself: .* `slap calibrate"):
        index.text(["600"], threshold=0.5)
    index.model.calibration = Calibration("sigmoid", 20.0, -15.0)
    (hits,) = index.text(["600"], threshold=0.5)
    assert paths(hits)[1:] == ["copies/almost.wav"]
    assert [hit.probability for hit in hits] == pytest.approx([1 / (1 + np.exp(15 - 20 * hit.score)) for hit in hits])
    assert index.text(["7777"], threshold=0.5) == [[]]
    assert index.text(["600"], top=2)[0][1].probability == pytest.approx(hits[1].probability)
    (sound,) = index.audio([index.metadata.folder + "/tone1.wav"], top=1)
    assert sound[0].probability is None  # the calibration is of texts
    index.model.calibration = Calibration("softmax", 20.0, fitted=True)
    assert index.text(["600"], top=1)[0][0].probability is None  # nor is there one without other texts


class Decoder:
    """Finds a caption the more probable the higher the tone; a clip of some length at a time."""

    def __init__(self, backend):
        self.__dict__.update(backend.__dict__)
        self.backend, self.no_captions, self.asked = backend, "", []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def caption_likelihood(self, clips, captions):
        self.asked += zip([len(clip) for clip in clips], captions, strict=True)
        return torch.stack([-1 / self.backend.encode_audio([clip])[0].argmax().add(1) for clip in clips])


def test_the_decoder_orders_hits_anew(index, sounds):
    (hits,) = index.text(["600"], top=5)
    with pytest.raises(ValueError, match="re-ranked by the caption decoder, and a Spectral writes no captions"):
        reranked(index, "600", hits)
    index.model.backend = Decoder(index.model.backend)
    found, failed = reranked(index, "600", hits)
    assert (sorted(paths(found)), failed) == (sorted(paths(hits)), [])
    likelihoods = [hit.likelihood for hit in found]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert [hit.rank for hit in found] == [1, 2, 3, 4, 5]
    assert {(size, caption) for size, caption in index.model.backend.asked} == {(16_000, "600")}
    both, _ = reranked(index, "600", hits, "both")
    sums = combined(torch.tensor([hit.score for hit in both]), torch.tensor([hit.likelihood for hit in both])).tolist()
    assert sums == sorted(sums, reverse=True)
    assert sum(sums) == pytest.approx(0, abs=1e-5)
    assert paths(both) != paths(found)


def test_files_that_cannot_be_re_ranked_come_last(index, sounds):
    index.model.backend = Decoder(index.model.backend)
    (hits,) = index.text(["2700"], top=4)
    (sounds.folder / hits[0].path).unlink()
    (sounds.folder / hits[1].path).write_bytes(b"other")
    found, failed = reranked(index, "2700", hits)
    assert paths(found)[2:] == paths(hits)[:2]
    assert dict(failed) == {
        hits[0].path: f"{hits[0].path}: this file is no longer there; run `slap index` again",
        hits[1].path: f"{hits[1].path}: this file has changed since it was indexed; run `slap index` again",
    }
