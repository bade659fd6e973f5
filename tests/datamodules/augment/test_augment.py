"""Augmentation: noise, rooms, sequences, by name from the command line; pure functions of seed and draw."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut

from slap.cli.main import main
from slap.core.packed import Packed
from slap.datamodules import AudioTextData, Clip, read_manifest, write_manifest
from slap.datamodules.audio.load import decoded, load, mono
from slap.datamodules.augment import AUGMENTATIONS, augmentations
from slap.datamodules.augment.basic import Mix, Only, RandomGain, RandomSpeed
from slap.datamodules.augment.noise import RandomNoise, colored
from slap.datamodules.augment.reverb import RandomReverb, random_room
from slap.datamodules.augment.scenes import Scenes
from slap.datamodules.augment.sound_bank import SoundBank

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.jsonl: eight clips of 0.50, 0.55, ... s; noises/: a long, a short and a damaged file; rooms/: one echo."""
    folder = tmp_path_factory.mktemp("augmentation")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(8):
        soundfile.write(folder / f"{i}.wav", rng.uniform(-0.5, 0.5, 8000 + 800 * i), RATE, subtype="FLOAT")
        clips.append(Clip(str(i), folder / f"{i}.wav", [f"sound {i}."], {"n": str(i)}))
    write_manifest(folder / "m.jsonl", clips)
    (folder / "noises" / "deep").mkdir(parents=True)
    soundfile.write(folder / "noises" / "long.wav", rng.uniform(-0.1, 0.1, (3 * 44100, 2)), 44100)
    soundfile.write(folder / "noises" / "deep" / "short.flac", rng.uniform(-0.1, 0.1, 1000), RATE)
    (folder / "noises" / "damaged.wav").write_bytes(b"RIFF")
    (folder / "rooms").mkdir()
    echo = np.zeros(2000)
    echo[100], echo[900] = 0.9, 0.45  # the direct sound and an echo 800 samples later
    soundfile.write(folder / "rooms" / "echo.wav", echo, RATE, subtype="FLOAT")
    return folder


@pytest.fixture
def cuts(folder: Path) -> CutSet:
    return CutSet([decoded(mono(cut, RATE)) for cut in read_manifest(folder / "m.jsonl")])


def drawn(cuts: CutSet, epoch: int) -> CutSet:
    """Return the cuts as the data set hands them to transforms."""
    made = []
    for cut in cuts:
        cut = pickle.loads(pickle.dumps(cut))
        cut.custom["draw"] = f"0 {epoch} {cut.id}"
        made.append(cut)
    return CutSet(made)


def level(samples: torch.Tensor) -> float:
    return 10 * torch.log10(samples.double().pow(2).mean()).item()


@pytest.mark.parametrize("noises", [None, "noises"])
def test_noise_lies_under_the_clip_at_the_level_it_says(folder: Path, cuts: CutSet, noises: str | None) -> None:
    add = RandomNoise(noises and folder / noises, probability=1.0, low=7.0, high=7.0)
    for before, after in zip(cuts, add(drawn(cuts, 0)), strict=True):
        clean, noisy = load(before), load(after)
        assert len(noisy) == len(clean) == after.num_samples
        assert level(clean) - level(noisy - clean) == pytest.approx(7.0, abs=0.01)
        assert isinstance(after, MonoCut)  # what comes after need not know
        assert (after.id, after.supervisions[0].text) == (before.id, before.supervisions[0].text)
        assert after.custom["labels"] == {"n": before.id}


def test_noise_and_rooms_come_as_often_as_they_say(cuts: CutSet) -> None:
    for transform in (RandomNoise(probability=0.25), RandomReverb(probability=0.25, rooms=1)):
        changed = [
            not torch.equal(load(after), load(before))
            for epoch in range(25)
            for before, after in zip(cuts, transform(drawn(cuts, epoch)), strict=True)
        ]
        assert 0.15 < sum(changed) / len(changed) < 0.36  # standard deviation 0.03


def test_the_colours_of_noise() -> None:
    for power in (0.0, -0.5, -1.0):
        noise = colored(2**15, power, seed=1)
        assert np.mean(noise**2) == pytest.approx(1, rel=1e-4)
        spectrum = np.abs(np.fft.rfft(noise))[1:] ** 2
        octaves = [spectrum[2**k : 2 ** (k + 1)].mean() for k in range(5, 14)]
        slope = np.polyfit(range(9), 10 * np.log10(octaves), 1)[0]
        assert slope == pytest.approx(20 * power * np.log10(2), abs=0.5)  # dB an octave
    assert len(colored(1, -1.0, 0)) == 1


def test_a_room_is_what_its_impulse_response_says(folder: Path, cuts: CutSet) -> None:
    for before, after in zip(cuts, RandomReverb(folder / "rooms", probability=1.0)(drawn(cuts, 0)), strict=True):
        clean, echoing = load(before), load(after)
        assert len(echoing) == len(clean)
        wanted = clean.clone()
        wanted[800:] += 0.5 * clean[:-800]
        wanted *= (clean.pow(2).sum() / wanted.pow(2).sum()).sqrt()
        torch.testing.assert_close(echoing, wanted, rtol=0, atol=1e-3)


def test_random_rooms_are_numbered_and_leave_the_generators_of_others_alone(cuts: CutSet) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = random_room(3, RATE).to_cut().load_audio()
    random_room.cache_clear()
    torch.manual_seed(0)
    assert np.array_equal(random_room(3, RATE).to_cut().load_audio(), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not np.array_equal(random_room(4, RATE).to_cut().load_audio()[:, :100], first[:, :100])
    (after,) = RandomReverb(probability=1.0, rooms=1)(CutSet([cuts[7]]))
    assert level(load(after)) == pytest.approx(level(load(cuts[7])), abs=0.1)
    assert torch.equal(load(after), load(after))


def test_random_rooms_do_not_depend_on_threads() -> None:
    before, rooms = torch.get_num_threads(), []
    try:
        for threads in (1, *[4] * 8):
            torch.set_num_threads(threads)
            random_room.cache_clear()
            rooms.append(random_room(1, 8000).to_cut().load_audio())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(room, rooms[0]) for room in rooms)


@pytest.mark.parametrize(
    "transform",
    [RandomNoise(probability=1.0), RandomReverb(probability=1.0), Scenes(probability=0.6, most=3)],
    ids=lambda transform: type(transform).__name__,
)
def test_drawn_by_seed_and_clip_alone(cuts: CutSet, transform) -> None:
    def audio(transform, cuts: CutSet, epoch: int = 0) -> list[list[float]]:
        return [load(cut).tolist() for cut in transform(drawn(cuts, epoch))]

    first = audio(transform, cuts)
    torch.rand(7)
    assert audio(pickle.loads(pickle.dumps(transform)), cuts) == first
    assert audio(transform, cuts, epoch=1) != first
    assert audio(type(transform)(**{**vars(transform), "seed": 5}), cuts) != first
    if not isinstance(transform, Scenes):  # which needs the others
        assert audio(transform, CutSet(list(cuts)[3:])) == first[3:]


def test_sounds_come_from_a_folder_or_a_manifest(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(0)
    sounds = SoundBank(folder / "noises")
    lengths = {sounds.draw(rng, RATE, 0.5).num_samples for _ in range(30)}
    assert lengths == {8000, 1000}
    assert "left out a sound for augmentation" in caplog.text
    assert "damaged.wav" in caplog.text
    assert SoundBank(folder / "m.jsonl").draw(rng, 8000, 0.25).num_samples == 2000
    with pytest.raises(ValueError, match=r"there is no folder and no manifest .*nothing"):
        RandomNoise(folder / "nothing")
    (folder / "empty").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=r"there is no audio in .*empty; files that end in \.wav, \.flac"):
        RandomReverb(folder / "empty")
    (folder / "broken").mkdir(exist_ok=True)
    (folder / "broken" / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"10 sounds of .*broken in a row cannot be read; the last one: "):
        SoundBank(folder / "broken").draw(rng, RATE)


def test_silence_stays_finite(folder: Path) -> None:
    chain = [RandomNoise(probability=1.0), RandomReverb(probability=1.0, rooms=2), RandomGain(), RandomSpeed()]
    cuts = CutSet([held_silence(folder)])
    for transform in chain:
        cuts = transform(cuts)
    assert torch.isfinite(load(next(iter(cuts)))).all()


def held_silence(folder: Path) -> MonoCut:
    soundfile.write(folder / "silent.wav", np.zeros(8000), RATE)
    manifest = write_manifest(folder / "silent.jsonl", [Clip("silent", folder / "silent.wav", ["nothing"])])
    return decoded(mono(read_manifest(manifest)[0], RATE))


def test_by_name() -> None:
    made = augmentations({"speed": None, "gain": {"low": -3.0}, "mix": {"only": "esc10/", "probability": 0.1}})
    assert made == (RandomSpeed(), RandomGain(low=-3.0), Only("esc10/", Mix(probability=0.1)))
    assert [type(transform) for transform in augmentations(dict.fromkeys(AUGMENTATIONS))] == [*AUGMENTATIONS.values()]
    with pytest.raises(
        ValueError, match="there is no augmentation 'revreb'; did you mean 'reverb'\\? valid are: crop, "
    ):
        augmentations({"revreb": {}})
    with pytest.raises(
        ValueError, match="'speed' has no argument 'factor'; did you mean 'factors'\\? valid are: factors, seed, only"
    ):
        augmentations({"speed": {"factor": [1.0]}})
    with pytest.raises(ValueError, match="RandomNoise needs probability within 0 to 1; got probability=2"):
        augmentations({"noise": {"probability": 2}})
    with pytest.raises(ValueError, match=r"needs colours from white, pink, brown; got colours=\['blue'\]"):
        augmentations({"noise": {"colours": ["blue"]}})


def test_the_data_module_applies_them_and_workers_change_nothing(folder: Path) -> None:
    def tokenize(texts: list[str]) -> Packed:
        return Packed.pack([torch.tensor([ord(letter) for letter in text]) for text in texts])

    options = {
        "noise": {"noises": str(folder / "noises")},
        "reverb": {},
        "speed": {},
        "scenes": {"least": 2, "twins": 0},
        "mix": {},
    }

    def epoch(workers: int, augment: dict | None) -> list[tuple]:
        data = AudioTextData(folder / "m.jsonl", max_duration=4.0, max_clip=None, num_workers=workers, augment=augment)
        data.connect(
            RATE, lambda texts: Packed.pack([torch.tensor([ord(letter) for letter in text]) for text in texts])
        )
        batches = list(data.train_dataloader())
        data.teardown("fit")
        return [(batch.ids, batch.captions, batch.audio.values.tolist(), batch.read) for batch in batches]

    plain, alone = epoch(0, None), epoch(0, options)
    assert alone == epoch(2, options) != plain
    assert any(
        "sound" in text and "#" in name
        for ids, captions, _, _ in alone
        for name, text in zip(ids, captions, strict=True)
    )
    assert sum(read for _, _, _, read in alone) == 8 > sum(len(ids) for ids, _, _, _ in alone)


def test_from_the_command_line(folder: Path, capsys: pytest.CaptureFixture) -> None:
    def fit(augment: str) -> int:
        train = f"--data.train=[{folder / 'm.jsonl'}]"
        nano = [f"--model.{side}={{name: transformer, size: nano}}" for side in ("audio", "text")]
        losses = "--model.objectives={contrastive: 1.0}"
        return main(["fit", "--recipe", "base", train, *nano, losses, "--data.augment", augment])

    assert fit("{spede: {}}") == 2
    assert "there is no augmentation 'spede'; did you mean 'speed'? valid are: crop" in capsys.readouterr().err
    assert fit("{noise: {lo: 3}}") == 2
    assert "the augmentation 'noise' has no argument 'lo'; did you mean 'low'?" in capsys.readouterr().err
