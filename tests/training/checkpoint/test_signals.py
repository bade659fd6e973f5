"""Ctrl-C ends a training at once when it has been asked to end before, by whatever signal."""

import signal

import pytest
from lightning.pytorch import Trainer

from slap.training.processes.signals import Signals


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_by_ctrl_c_interrupts(first):
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    signals = Signals(trainer)
    signals.register_signal_handlers()
    try:
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signals.teardown()
    assert signals.received == first
