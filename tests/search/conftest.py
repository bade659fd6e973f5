"""A folder of tones and a model that hears them: the embedding of a sound is its spectrum."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("lancedb", reason="LanceDB is not installed (the extra `search`)")

from slap.inference.frames import frame_count
from slap.inference.model import Model
from slap.search.metadata import Metadata
from slap.search.store import Store
from slap.search.update import Update

RATE = 16_000


class Spectral:
    """Embeds a sound as its spectrum in 40 bands of 200 Hz, and a text as the sounds of the frequencies in it."""

    sample_rate = RATE
    embedding_dim = 40
    max_seconds = 10.0
    calibration = None
    frame_samples = RATE // 10

    def __init__(self):
        self.name = "spectral-1"
        self.embedded = 0

    def encode_audio(self, clips):
        self.embedded += len(clips)
        return torch.stack([bands(clip) for clip in clips])

    def encode_text(self, texts):
        times = torch.arange(RATE * 3) / RATE
        return torch.stack(
            [
                bands(sum(torch.sin(2 * torch.pi * float(hz) * times) for hz in re.findall(r"\d+", text)))
                for text in texts
            ]
        )

    def encode_frames(self, clip, hop):
        count = frame_count(len(clip), hop, self.frame_samples)
        return torch.stack([bands(clip[i * hop : i * hop + self.frame_samples]) for i in range(count)])


def bands(samples):
    """(T,) -> (40,) of length 1."""
    spectrum = torch.fft.rfft(samples, n=RATE * 10).abs()[: RATE * 5].view(40, -1).mean(1)
    return torch.nn.functional.normalize(spectrum + 1e-6, dim=0)


class Sounds:
    """A folder in which tests put sounds, and its index."""

    def __init__(self, root, model):
        self.folder, self.index, self.model = root / "sounds", root / "sounds.index", model
        self.folder.mkdir()
        self.weights = root / "model.ckpt"
        self.weights.touch()

    def tone(self, name, *hz, seconds=1.0, rate=RATE):
        """A file of tones, one after the other, each so long."""
        times = np.arange(int(seconds * rate)) / rate
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.concatenate([0.3 * np.sin(2 * np.pi * f * times) for f in hz]), rate)
        return path

    def metadata(self, **compact):
        return Metadata.of(self.model, str(self.weights), self.folder, None, None, **compact)

    def store(self, anew=False, **compact):
        metadata = self.metadata(**compact)
        return Store(self.index, metadata.embedding_dim, anew, metadata.dtype)

    def update(self, compact=None, anew=False, **options):
        """Bring the index up to date; what was done, and how many windows were embedded for it."""
        compact = compact or {}
        self.metadata(**compact).save(self.index)
        before = self.model.backend.embedded
        report = Update(self.store(anew, **compact), self.metadata(**compact), self.model, **options).run()
        report.embedded = self.model.backend.embedded - before
        return report


@pytest.fixture
def model(monkeypatch):
    """The model that is loaded, whatever the path."""
    found = Model(Spectral())
    monkeypatch.setattr("slap.search.query.load", lambda path, **options: found)
    return found


@pytest.fixture
def sounds(tmp_path, model):
    return Sounds(tmp_path, model)


@pytest.fixture(scope="session")
def shared():
    """Real recordings."""
    path = Path(__file__).parents[3] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real recordings in ../shared/data are not here")
    return path


@pytest.fixture
def copy():
    return shutil.copy2
