"""When something sounds: frames agree with the encoder, windows with one pass, and events with what the curve shows."""

import re
from dataclasses import replace

import pytest
import torch

import slap
from slap.core.calibration import Calibration
from slap.core.packed import Packed
from slap.inference.frames import Frames, above, adaptive_threshold, frame_count, median_filter, over_time
from slap.inference.network_backend import NetworkBackend, neighborhoods
from slap.testing.tiny import TinyText, tiny_checkpoint, tiny_model

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def model(folder):
    tiny_checkpoint(folder / "model.ckpt", max_seconds=3.0)
    return slap.load(folder / "model.ckpt", device="cpu")


def noise(seconds, seed=0):
    return torch.rand(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) - 0.5


# -- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1 / RATE, 0.1, 0.16, 0.5, 1.23])
def test_each_frame_is_what_the_pooling_head_makes_of_its_patches(model, seconds):
    audio, network = noise(seconds), model.backend.network
    frames = model.backend.encode_frames(audio, 640)
    assert len(frames) == frame_count(len(audio), 640, 2560)
    for i, frame in enumerate(frames):
        step, shift = divmod(i, 4)
        with torch.no_grad():
            patches = network.audio.patchify(Packed.pack([audio[shift * 640 :]]))
            tokens = network.audio(patches).values
            near = (patches.positions[:, 0] - step).abs() <= 1  # its four bands, and those of its two neighbors
            expected = network.audio_pool(Packed.pack([tokens[near]]))[0]
        torch.testing.assert_close(frame, expected, rtol=0, atol=1e-5)


def test_neighborhoods_do_not_need_sorted_tokens():
    tokens = Packed.pack([torch.arange(4.0)[:, None], torch.arange(10.0, 13.0)[:, None]])
    time = torch.tensor([2, 0, 1, 2, 0, 0, 1])
    near, item, step = neighborhoods(tokens, time)
    found = {
        (int(i), int(s)): sorted(rows[:, 0].tolist()) for i, s, rows in zip(item, step, near.unpack(), strict=True)
    }
    assert found == {
        (0, 0): [1, 2],
        (0, 1): [0, 1, 2, 3],
        (0, 2): [0, 2, 3],
        (1, 0): [10, 11, 12],
        (1, 1): [10, 11, 12],
    }


def test_similarity_over_time(model):
    audio = noise(1.0)
    found = model.frames(audio, ["a dog barks", "rain"])
    assert found.texts == ("a dog barks", "rain")
    assert found.seconds == 1.0
    assert found.times.tolist() == pytest.approx([0.08 + 0.04 * i for i in range(23)])
    expected = model.backend.encode_frames(audio, 640) @ model.embed_text(["a dog barks", "rain"]).T
    torch.testing.assert_close(found.similarity, expected)
    coarse = model.frames(audio, "rain", hop=0.16)
    torch.testing.assert_close(coarse.similarity[:, 0], found.similarity[::4, 1], rtol=0, atol=1e-5)


def test_a_hop_that_does_not_divide_the_step(model):
    with pytest.raises(ValueError, match="every 2560 samples or a whole fraction"):
        model.frames(noise(1.0), "rain", hop=0.05)


def test_an_encoder_without_time():
    network = tiny_model(text=TinyText())
    network.audio.step = None
    model = slap.Model(NetworkBackend(network, {}))
    with pytest.raises(ValueError, match=re.escape("(its attribute `step`)")):
        model.frames(torch.zeros(800), "rain")


def test_any_encoder_with_time_has_frames():
    model = slap.Model(NetworkBackend(tiny_model(), {}, max_seconds=1.0))
    found = model.frames(torch.rand(8000) - 0.5, ["rain"], hop=0.01)
    assert found.similarity.shape == (100, 1)


@pytest.mark.parametrize("samples", [50, 99, 100, 101, 167, 200, 333, 1000])
@pytest.mark.parametrize("window", [100, 90])
def test_long_audio_has_one_frame_for_each_place_from_the_window_that_holds_it_best(samples, window):
    hop, width = 8, 32
    seen = []

    def similar(clip):  # a frame "is" the number of its first sample; so frames must count up in steps of a hop
        seen.append(len(clip))
        return clip[0] + hop * torch.arange(frame_count(len(clip), hop, width))[:, None]

    audio = torch.arange(float(samples))
    rows, total = over_time(iter(audio.split(37)), similar, window, hop, width)
    assert total == samples
    assert rows[:, 0].tolist() == [hop * i for i in range(frame_count(samples, hop, width))]
    assert max(seen) <= window


def test_long_audio_agrees_with_one_pass_away_from_seams(folder):
    """With local attention only, what lies beyond its reach changes nothing."""
    tiny_checkpoint(folder / "long.ckpt", max_seconds=60.0)
    one, audio = slap.load(folder / "long.ckpt", device="cpu"), noise(7.3)
    tiny_checkpoint(folder / "short.ckpt", max_seconds=3.0)
    many = slap.load(folder / "short.ckpt", device="cpu")
    whole, merged = one.frames(audio, ["rain"]), many.frames(audio, ["rain"])
    torch.testing.assert_close(whole.times, merged.times)
    spread = whole.similarity.std()
    assert (whole.similarity - merged.similarity).abs().mean() < spread  # global blocks see another context


# -- events -----------------------------------------------------------------------------------------------------------


def curve(*stretches, texts=("bark",)):
    values = torch.cat([torch.full((round(seconds / 0.04),), value) for seconds, value in stretches])
    times = 0.08 + 0.04 * torch.arange(len(values))
    return Frames(times, values[:, None].repeat(1, len(texts)), texts, float(times[-1]) + 0.08, 0.04)


def test_onsets_and_offsets():
    frames = curve((1.0, 0.1), (0.6, 0.5), (0.8, 0.1), (0.4, 0.45), (1.0, 0.1))
    first, second = frames.events(threshold=0.4)
    assert (first.onset, first.offset) == pytest.approx((1.06, 1.66))
    assert (second.onset, second.offset) == pytest.approx((2.46, 2.86))
    assert first.score == pytest.approx(0.5)
    assert first.text == "bark"
    found = [(e.onset, e.offset) for e in frames.events()]
    assert found == [(e.onset, e.offset) for e in (first, second)]


def test_events_reach_the_ends():
    (event,) = curve((1.0, 0.5)).events(threshold=0.4)
    assert (event.onset, event.offset) == pytest.approx((0.0, 1.12))


def test_short_ones_are_dropped_and_spikes_smoothed():
    frames = curve((1.0, 0.1), (0.12, 0.9), (1.0, 0.1), (0.4, 0.5), (0.04, 0.1), (0.4, 0.5), (1.0, 0.1))
    assert len(frames.events(threshold=0.4, smooth=0, shortest=0)) == 3
    assert len(frames.events(threshold=0.4, smooth=0, shortest=0.2)) == 2
    assert len(frames.events(threshold=0.4, smooth=0.12, shortest=0.2)) == 1


def test_hysteresis_keeps_what_sags_but_does_not_begin_it():
    frames = curve((0.4, 0.1), (0.4, 0.5), (0.4, 0.35), (0.4, 0.5), (0.8, 0.1), (0.4, 0.35), (0.4, 0.1))
    assert len(frames.events(threshold=0.4, hysteresis=0.0, smooth=0)) == 2
    (event,) = frames.events(threshold=0.4, hysteresis=0.1, smooth=0)
    assert event.offset - event.onset == pytest.approx(1.2)


def test_a_flat_curve_has_no_events():
    assert curve((2.0, 0.3), (0.4, 0.31), (2.0, 0.3)).events() == []
    assert adaptive_threshold(torch.tensor([0.1] * 50 + [0.9] * 50), 0.05) == pytest.approx(0.5)


def test_median_and_stretches():
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    for width in (0, 1, 2, 3, 5, 8):
        reach = (max(width, 1) - 1) // 2
        ends = [values[0]] * reach + values.tolist() + [values[-1]] * reach
        slow = [sorted(ends[i : i + 2 * reach + 1])[reach] for i in range(50)]
        assert median_filter(values, width).tolist() == pytest.approx([float(v) for v in slow])
    assert above(torch.tensor([0.9, 0.1, 0.9]), 0.8, 0.5) == [(0, 1), (2, 3)]
    assert above(torch.zeros(3), 0.8, 0.5) == []


# -- models that were trained for frames ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aligned(folder):
    """A checkpoint whose objective frame_alignment has a scale and a bias of its own."""
    path = folder / "aligned.ckpt"
    objectives = {"contrastive": 1.0, "frame_alignment": {"weight": 1.0, "scale": 20.0, "bias": -3.0}}
    tiny_checkpoint(path, objectives, max_seconds=3.0)
    return path


def test_frames_are_those_of_the_objective_that_learned_them(aligned):
    model = slap.load(aligned, device="cpu")
    network, audio = model.backend.network, noise(1.0)
    found = model.frames(audio, ["a dog barks", "rain"])
    with torch.no_grad():
        for shift in range(4):
            tokens = network.audio(network.audio.patchify(Packed.pack([audio[shift * 640 :]])))
            frames, _, time = network.objectives["frame_alignment"].frames(tokens)
            assert time.tolist() == list(range(len(time)))
            expected = frames @ model.embed_text(["a dog barks", "rain"]).T
            mine = found.similarity[shift::4]
            torch.testing.assert_close(mine, expected[: len(mine)], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.probability, torch.sigmoid(20 * found.similarity - 3))
    assert len(found.times) == 23


def test_a_saved_model_keeps_what_it_learned_of_frames(aligned, folder):
    model = slap.load(aligned, device="cpu")
    model.save_pretrained(folder / "saved", allow_collapsed=True)
    again = slap.load(folder / "saved", device="cpu")
    before, after = (one.frames(noise(0.7), "rain") for one in (model, again))
    torch.testing.assert_close(after.similarity, before.similarity, rtol=0, atol=1e-6)
    assert after.calibration == before.calibration
    low = slap.load(folder / "saved", device="cpu", dtype="bfloat16").frames(noise(0.7), "rain")
    assert (low.similarity - before.similarity).abs().max() < 0.1


def test_other_models_have_no_probabilities(model):
    found = model.frames(noise(0.5), "rain")
    assert (found.calibration, found.probability) == (None, None)


def test_events_begin_where_the_probability_is_one_half(aligned):
    frames = curve((1.0, 0.1), (0.6, 0.26), (0.8, 0.1), (0.4, 0.24), (1.0, 0.1))
    known = replace(frames, calibration=slap.load(aligned, device="cpu").backend.frame_calibration)
    found = known.events(hysteresis=0.0, contrast=1.0)  # 20 x 0.15 - 3 = 0, so both are above
    assert [event.onset for event in found] == pytest.approx([1.06, 2.46])
    strict = replace(frames, calibration=Calibration("sigmoid", 20.0, -5.0))
    assert len(strict.events(hysteresis=0.0)) == 1
    flat = replace(curve((2.0, 0.3)), calibration=Calibration("sigmoid", 20.0, -5.0))
    (event,) = flat.events()  # heard throughout, which no contrast could show
    assert (event.onset, event.offset) == (0.0, pytest.approx(flat.seconds))
