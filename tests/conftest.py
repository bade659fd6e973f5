"""Fixtures for tests of every room: sounds, a manifest, a tiny model with a batch and a checkpoint, quick reports."""

import os
import shutil

import pytest
import torch

import slap.testing
from slap.testing import tiny
from sounds import write_noise

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # gRPC survives no fork, and other tests may import gcsfs


def pytest_runtest_setup(item):
    """Skip a test by its marker where the machine has not what the test needs."""
    if item.get_closest_marker("java") and shutil.which("java") is None:
        pytest.skip("there is no Java on this machine")
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device on this machine")


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory):
    """Keep the marks of the user's own files out of the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def wav(tmp_path):
    """Return a function that writes noise to a file of the test's folder: `wav("a.wav", seconds=2, rate=44_100)`."""
    return lambda name, **options: write_noise(tmp_path / name, **options)


@pytest.fixture
def manifest(wav, tmp_path):
    """Write m.jsonl: clips c0 to c7 of 0.2 to 0.55 s at 16 kHz, each with the captions "sound 0" and "noise 0" etc."""
    from slap.datamodules import Clip, write_manifest

    files = [wav(f"c{i}.wav", seconds=0.2 + 0.05 * i, seed=i) for i in range(8)]
    clips = [Clip(file.stem, file, [f"sound {i}", f"noise {i}"]) for i, file in enumerate(files)]
    return write_manifest(tmp_path / "m.jsonl", clips)


@pytest.fixture
def tiny_model():
    """Make an untrained model of a few thousand parameters."""
    return slap.testing.tiny_model()


@pytest.fixture
def batch(tiny_model):
    """Make four clips of noise of different durations, each with a caption, for `tiny_model`."""
    return slap.testing.tiny_batch(tiny_model)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """Write the checkpoint of a small random model. Tests read the file and do not change it."""
    path = tmp_path_factory.mktemp("tiny") / "model.ckpt"
    tiny.tiny_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def fast_reports():
    """Spare a run the seconds that confidence intervals of 2000 samples and pictures take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slap.metrics.bootstrap.SAMPLES", 20)
        patch.setattr(
            "slap.training.callbacks.learning_curves.draw", lambda series, path, chance: path.write_bytes(b"")
        )
        yield
