"""Packed log-mel frames equal torchaudio's, clip by clip, for clips of any length."""

import pytest
import torch
import torchaudio

from slap import Packed
from slap.encoders.logmel import LogMel


@pytest.fixture
def oracle():
    return torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, win_length=400, hop_length=160, n_mels=64)


def clips(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(size, generator=generator) * 2 - 1 for size in sizes]


def test_packed_frames_equal_torchaudio_clip_by_clip(oracle):
    waves = clips(257, 16_000, 40_001, 320, 5_000)
    frames = LogMel().power(Packed.pack(waves))
    for ours, wave in zip(frames.unpack(), waves, strict=True):
        theirs = oracle(wave).T
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.log(ours + 1e-6), torch.log(theirs + 1e-6), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 100, 159, 160, 256])
def test_clips_shorter_than_half_a_window_reflect_as_often_as_needed(oracle, size):
    (wave,) = clips(size)
    # By hand: there and back again, 0 1 2 ... last ... 2 1, as often as needed on both sides.
    mirror = torch.cat([wave, wave[1:-1].flip(0)])
    around = mirror[torch.arange(-256, size + 256) % len(mirror)]
    oracle.spectrogram.center = False
    oracle.spectrogram.pad = 0
    theirs = oracle(around).T
    ours = LogMel().power(Packed.pack([wave])).values
    assert len(ours) == 1 + size // 160
    torch.testing.assert_close(ours, theirs[: len(ours)], rtol=1e-4, atol=1e-4)


def test_a_batch_in_chunks_equals_the_batch_at_once(monkeypatch):
    audio = Packed.pack(clips(16_000, 1, 7_000))
    whole = LogMel()(audio).values
    monkeypatch.setattr("slap.encoders.logmel.CHUNK", 7)
    torch.testing.assert_close(LogMel()(audio).values, whole)


def test_a_clip_without_samples_is_an_error():
    with pytest.raises(ValueError, match=r"clip 1 .* no samples"):
        LogMel()(Packed.pack([torch.zeros(5), torch.zeros(0)]))
