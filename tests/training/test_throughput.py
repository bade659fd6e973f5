"""Throughput is counted from what the batches hold, and packing efficiency from what the encoder was given."""

from types import SimpleNamespace

import pytest
import torch

from slap import Packed
from slap.core.registry import build
from slap.testing.tiny import FRAME, TinyAudio, tiny_batch, tiny_model
from slap.training.callbacks import expected_time, throughput
from slap.training.callbacks.throughput import Throughput, patches_per_sample


class Clock:
    """One second passes each time that somebody looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class FakeLoader:
    """Has kept somebody waiting for a quarter of a second before each batch."""

    waited = 7.0


class FakeTrainer:
    """Writes a row every second step."""

    global_step = 0
    train_dataloader = None

    @property
    def _logger_connector(self):
        return self

    @property
    def should_update_logs(self):
        return self.global_step % 2 == 0


@pytest.fixture
def logged(monkeypatch):
    monkeypatch.setattr(throughput, "perf_counter", Clock())
    return {}


def run(model, batches, logged, validate_after=None, loader=None):
    """What a Trainer would do with a step a batch."""
    model.log = lambda name, value, **options: logged.setdefault(name, []).append((value, options.get("reduce_fx")))
    callback, trainer = Throughput(), FakeTrainer()
    trainer.train_dataloader = loader
    callback.on_train_start(trainer, model)
    for i, batch in enumerate(batches):
        if loader is not None:
            loader.waited += 0.25
        callback.on_train_batch_start(trainer, model, batch, i)
        model.training_step(batch, i)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, model, None, batch, i)
        if i == validate_after:
            callback.on_validation_start(trainer, model)
            model.eval()
            model.embed_audio(batch.audio)
            model.train()
    callback.on_train_end(trainer, model)


def test_rates_are_clips_and_seconds_over_time(logged):
    model = tiny_model()
    batches = [tiny_batch(model, seconds) for seconds in ([0.5, 0.25], [1.0], [0.125] * 3, [0.25] * 2)]
    run(model, batches, logged)
    # The clock is read at the start, at each row, and once more after it.
    assert logged["train/clips_per_s"] == [(3.0, "sum"), (5.0, "sum")]
    assert logged["train/audio_s_per_s"] == [(1.75, "sum"), (0.875, "sum")]


def test_waiting_for_data_is_a_share_of_the_time(logged):
    model = tiny_model()
    batches = [tiny_batch(model, [0.5])] * 6
    run(model, batches, logged, loader=FakeLoader())
    # The first batch of all comes before the clock starts; then there are two to a row, and a second.
    assert logged["train/data_wait"] == [(0.25, None), (0.5, None), (0.5, None)]


def test_a_loader_that_does_not_count_has_no_figure(logged):
    model = tiny_model()
    run(model, [tiny_batch(model, [0.5])] * 2, logged)
    assert "train/clips_per_s" in logged
    assert "train/data_wait" not in logged


def test_validation_does_not_count(logged):
    model = tiny_model()
    batches = [tiny_batch(model, [0.5, 0.25]), tiny_batch(model, [0.25])]
    run(model, batches, logged, validate_after=0)
    assert logged["train/clips_per_s"] == [(1.5, "sum")]  # 3 clips in the second before it and the second after it
    (efficiency, _) = logged["train/packing_efficiency"][0]
    assert efficiency == 1.0


def test_efficiency_is_what_incomplete_patches_leave_of_it(logged):
    model = tiny_model()
    samples = [FRAME, FRAME + 1, 3 * FRAME - 1]
    batch = tiny_batch(model, [size / model.audio.sample_rate for size in samples])
    run(model, [batch, batch], logged)
    assert logged["train/packing_efficiency"] == [(pytest.approx(sum(samples) / FRAME / (1 + 2 + 3)), None)]


def test_an_encoder_that_pads_to_the_longest_is_found_out(logged):
    class Padding(TinyAudio):
        def patchify(self, audio):
            clips = torch.nn.utils.rnn.pad_sequence(audio.unpack(), batch_first=True)
            return super().patchify(Packed.pack(list(clips)))

    model = tiny_model(audio=Padding())
    batch = tiny_batch(model, [1.0, 0.1, 0.1, 0.1])
    run(model, [batch, batch], logged)
    assert logged["train/packing_efficiency"] == [(pytest.approx(1.3 / 4.0), None)]


def test_the_papers_encoder_makes_25_patches_a_second():
    encoder = build("audio encoder", "transformer", {"size": "nano"}).train()
    state = torch.get_rng_state()
    assert patches_per_sample(encoder, "cpu") * encoder.sample_rate == pytest.approx(25)
    assert torch.equal(torch.get_rng_state(), state)  # measuring draws no random numbers,
    assert all(module.training for module in encoder.modules())  # and leaves the encoder as it was


def test_parts_of_a_batch_count_once(logged):
    whole, parts = {}, {}
    for found, micro_clips in ((whole, None), (parts, 1)):
        model = tiny_model()
        model.micro_clips = micro_clips
        batch = tiny_batch(model, [1.0, 0.07, 0.3])
        run(model, [batch, batch], found)
    assert whole["train/packing_efficiency"] == parts["train/packing_efficiency"]


def test_the_encoder_stays_as_it_is(logged):
    model = tiny_model()
    batch = tiny_batch(model)
    run(model, [batch, batch], logged)
    assert "patchify" not in vars(model.audio)


def test_the_expected_time_is_told_after_some_steps(monkeypatch, capsys):
    """Steps of two seconds after the first five, and validations as long as the one before training."""
    now = [0.0]
    monkeypatch.setattr(expected_time, "perf_counter", lambda: now[0])
    trainer = SimpleNamespace(global_step=0, max_steps=1025, is_global_zero=True)
    told = expected_time.ExpectedTime(validations=10)
    told.on_sanity_check_start(trainer, None)
    now[0] += 30
    told.on_sanity_check_end(trainer, None)
    told.on_train_start(trainer, None)
    for step in range(1, 100):
        now[0] += 100 if step <= expected_time.WARM else 2
        trainer.global_step = step
        told.on_train_batch_end(trainer)
    assert capsys.readouterr().out == "slap: a step takes 2.0 s; this training takes about 38 minutes\n"
