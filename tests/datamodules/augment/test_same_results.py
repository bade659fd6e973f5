"""Every transform by name gives the same clips for the same seeds as it always did."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.audio.load import load, mono
from slap.datamodules.augment import AUGMENTATIONS, augmentations

RATE = 8000

# By augmentation its clips as id:samples:projection. The projection is the dot product with fixed noise, which any
# other draw, gain or place changes; the last digit is left out of the comparison, since libraries differ in rounding.
EXPECTED = """
crop = a:3956:7.158 b:4182:17.204 c:4257:-11.139 d:5103:21.207 e:5264:-14.061 f:5866:-8.029
event_crop = a:3116:8.928 b:2030:-0.331 c:1999:-0.988 d:2705:-5.923 e:1878:0.788 f:2831:0.436
filter = a:4000:7.688 b:4400:1.739 c:4800:7.834 d:5200:-9.971 e:5600:8.440 f:6000:1.164
gain = a:4000:10.867 b:4400:-5.263 c:4800:7.531 d:5200:-9.626 e:5600:12.465 f:6000:-0.182
mix = a:4000:10.867 b:4400:-5.263 c+a:4800:10.685 d+c:5200:42.749 e+d:5600:16.510 f+d:6000:-13.202
mixup = a*c:4000:-0.391 b*c:4400:-1.991 c*f:4800:12.658 d:5200:-9.626 e*f:5600:-2.380 f*c:6000:-5.268
noise = a:4000:14.329 b:4400:-4.509 c:4800:11.366 d:5200:-8.429 e:5600:14.860 f:6000:2.828
noise from files = a:4000:11.012 b:4400:-5.365 c:4800:13.200 d:5200:-9.572 e:5600:12.723 f:6000:2.631
reverb = a:4000:-3.805 b:4400:7.622 c:4800:7.703 d:5200:-5.397 e:5600:12.465 f:6000:-0.182
reverb from files = a:4000:-13.034 b:4400:-8.331 c:4800:0.608 d:5200:-25.100 e:5600:12.465 f:6000:-0.182
scenes = a:4000:10.867 b>c#0-1-b.0:9200:7.652 d>f#0-1-d.0:11200:3.225 e#0-1-e.0:5600:14.835
speed = a:3810:-2.030 b:4000:-6.787 c:5053:4.609 d:5778:-14.064 e:5895:-5.053 f:6000:-0.182
"""

ARGUMENTS = {
    "noise": {"probability": 0.7},
    "noise from files": {"noises": "sounds", "probability": 0.7},
    "reverb": {"probability": 0.7, "rooms": 3},
    "reverb from files": {"impulses": "sounds", "probability": 0.7},
    "scenes": {"probability": 0.7, "most": 3, "longest": 2.0},
    "event_crop": {"shortest": 0.2, "longest": 0.4},
    "mix": {"probability": 0.7, "seed": 3},
    "gain": {"low": -6.0, "high": 3.0, "only": "c"},
}


@pytest.fixture
def cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CutSet:
    """Six clips of 0.50, 0.55, ... s with sounds that grow, and two files of sounds to augment with."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    clips = []
    for number, name in enumerate("abcdef"):
        samples = rng.uniform(-0.5, 0.5, 4000 + 400 * number) * np.linspace(0, 1, 4000 + 400 * number)
        soundfile.write(f"{name}.wav", samples, RATE, subtype="FLOAT")
        clips.append(Clip(name, Path(f"{name}.wav"), [f"sound {name}."], {"letter": name}))
    Path("sounds").mkdir()
    soundfile.write("sounds/long.wav", rng.uniform(-0.1, 0.1, 9000), RATE, subtype="FLOAT")
    soundfile.write("sounds/short.wav", rng.uniform(-0.1, 0.1, 900), RATE, subtype="FLOAT")
    made = []
    for cut in read_manifest(write_manifest(tmp_path / "m.jsonl", clips)):
        one = mono(cut, RATE)
        one.custom["draw"] = f"0 1 {cut.id}"
        made.append(one)
    return CutSet(made)


def output(name: str, cuts: CutSet) -> list[tuple[str, int, float]]:
    """Return id, number of samples and projection of each clip that an augmentation makes."""
    (transform,) = augmentations({name.split()[0]: ARGUMENTS.get(name)})
    made = [(cut.id, load(cut).double().numpy()) for cut in transform(cuts)]
    noise = np.random.default_rng(1).standard_normal(max(len(samples) for _, samples in made))
    return [(name, len(samples), float(samples @ noise[: len(samples)])) for name, samples in made]


def expected(name: str) -> list[tuple[str, int, float]]:
    """Return the same of the table."""
    (line,) = [line for line in EXPECTED.splitlines() if line.partition(" = ")[0] == name]
    fields = [clip.rsplit(":", 2) for clip in line.partition(" = ")[2].split()]
    return [(clip, int(samples), pytest.approx(float(projection), abs=0.002)) for clip, samples, projection in fields]


@pytest.mark.parametrize("name", sorted({*AUGMENTATIONS, *ARGUMENTS}))
def test_the_same_seed_gives_the_same_clips(cuts: CutSet, name: str) -> None:
    assert output(name, cuts) == expected(name)
