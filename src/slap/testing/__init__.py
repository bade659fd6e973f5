"""Contract tests for plug-ins, which any test can call, and tiny models and batches for other tests.

    from slap.testing import check_objective

    def test_my_loss():
        check_objective(MyLoss())

The checks work on copies, on the CPU and in float32.
"""

from __future__ import annotations

from slap.testing.encoders import check_audio_encoder, check_text_encoder
from slap.testing.objectives import check_objective
from slap.testing.tiny import TinyAudio, TinyText, tiny_batch, tiny_model

__all__ = [
    "TinyAudio",
    "TinyText",
    "check_audio_encoder",
    "check_objective",
    "check_text_encoder",
    "tiny_batch",
    "tiny_model",
]
