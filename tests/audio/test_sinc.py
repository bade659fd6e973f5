"""The resampler of processes without torch is torchaudio's."""

import numpy as np
import pytest
import torch
from torchaudio.transforms import Resample

from slap.audio import resample
from slap.audio.sinc import Sinc, kernel

RATES = [(441, 160), (3, 1), (1, 2), (147, 320), (441, 320), (6, 1), (1, 3), (1999, 1000)]


@pytest.mark.parametrize(("period", "produced"), RATES)
def test_the_filter_is_torchaudios(period, produced):
    theirs = Resample(period, produced)
    np.testing.assert_allclose(kernel(period, produced), theirs.kernel[:, 0], rtol=0, atol=2e-7)
    ours = Sinc(period, produced)
    for length in (1, 2, period, period + 1, 10_007):
        wave = np.random.default_rng(length).uniform(-1, 1, (2, length)).astype(np.float32)
        expected = theirs(torch.from_numpy(wave)).numpy()
        np.testing.assert_allclose(ours(wave), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours(wave[0]), expected[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_it_takes_torchaudios_place_where_there_is_no_torch(rate, monkeypatch):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 30_011).astype(np.float32)
    expected = resample.resample(wave, rate, 16_000)
    monkeypatch.delitem(resample.sys.modules, "torch")
    monkeypatch.setattr(resample, "_filters", {})
    blocks = np.split(wave, range(7000, len(wave), 7000))
    for found in (
        resample.resample(wave, rate, 16_000),
        np.concatenate([*resample.resampled(iter(blocks), rate, 16_000)]),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert all(isinstance(one, Sinc) for one in resample._filters.values())
    assert len(resample._filters) == 1
