"""Which sample rates recordings have; imports nothing."""

from __future__ import annotations

RATES = (100, 768_000)
"""Hz; what is outside is a mistake in a header or a swap of arguments."""
