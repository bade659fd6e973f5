"""Sounds that tests write and embed."""

import numpy as np
import soundfile


def noise(seconds, rate=16_000, channels=1, seed=0):
    """Return white noise between -0.5 and 0.5: (T,) of one channel, (T, C) of several."""
    frames = round(seconds * rate)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, frames if channels == 1 else (frames, channels))


def write_noise(path, seconds=0.5, rate=16_000, channels=1, seed=0):
    """Write a file of noise, in a folder that is made where it is missing, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, rate, channels, seed), rate)
    return path
