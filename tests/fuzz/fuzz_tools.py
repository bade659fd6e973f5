"""What the targets of fuzzing share: damage to bytes and nested data, odd texts, and a watch over what a case does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
Case = Callable[[Rng, Path], None]
"""One case: made of random numbers alone, in a folder that is its own; an exception that it lets through is a find."""

FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
"""What no file, manifest or model may make happen, by Python's names of audit events."""


class Watch:
    """Raises where something forbidden happens while it is on; there is one, since audit hooks cannot be removed."""

    def __init__(self) -> None:
        self.on = False
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in FORBIDDEN:
            raise AssertionError(f"{event} was called with {arguments!r}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """On within, off after it."""
        self.on = True
        try:
            yield
        finally:
            self.on = False


WATCH = Watch()


def damaged(raw: bytes, rng: Rng) -> bytes:
    """Bytes with one to four kinds of damage."""
    for _ in range(int(rng.integers(1, 5))):
        raw = _DAMAGES[int(rng.integers(len(_DAMAGES)))](raw, rng)
    return raw


def _place(raw: bytes, rng: Rng) -> int:
    """A place, in half of the cases among the first bytes, where headers are."""
    return int(rng.integers(min(len(raw), 64) if rng.random() < 0.5 else len(raw))) if raw else 0


def _flipped(raw: bytes, rng: Rng) -> bytes:
    changed = bytearray(raw)
    for _ in range(int(rng.integers(1, 9))):
        if changed:
            changed[_place(raw, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _overwritten(raw: bytes, rng: Rng) -> bytes:
    at, size = _place(raw, rng), int(rng.integers(1, 17))
    fill = [b"\0" * size, b"\xff" * size, rng.bytes(size), b"\x7f" + b"\xff" * (size - 1)][int(rng.integers(4))]
    return raw[:at] + fill + raw[at + size :]


def _cut(raw: bytes, rng: Rng) -> bytes:
    return raw[: _place(raw, rng)]


def _cut_out(raw: bytes, rng: Rng) -> bytes:
    at = _place(raw, rng)
    return raw[:at] + raw[at + int(rng.integers(1, 200)) :]


def _inserted(raw: bytes, rng: Rng) -> bytes:
    at = _place(raw, rng)
    return raw[:at] + rng.bytes(int(rng.integers(1, 40))) + raw[at:]


def _doubled(raw: bytes, rng: Rng) -> bytes:
    at, size = _place(raw, rng), int(rng.integers(1, 400))
    return raw[: at + size] + raw[at:]


_DAMAGES = [_flipped, _flipped, _overwritten, _overwritten, _cut, _cut_out, _inserted, _doubled]

TEXTS = (
    "", " ", "a dog barks", "\0", "a\0b", "\ufeff", "\ud800", "\udcff\udcfe", "\u202egnikrab", "\u2066x", "\x1b[31m",
    "é" * 50, "ﷺ", "👩\u200d👧", "a\u0301" * 20, "\u200f\u05d0", "x" * 25_000, "%s%n", "'; DROP TABLE", "<script>", "~",
    "../../x", "/etc/passwd", "pipe:touch mark", "touch mark |", "http://localhost/a.wav", "a.sph", "file:///etc/passwd",
    "\\\\host\\x", "NaN", "1e999",
)  # fmt: skip
"""Texts that have broken programs."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -0.0, 0.1, 1e-300, 1e308, float("nan"), float("inf"),
    [], {}, [[]], [None], {"": None}, [1, "a"], {"type": "command", "source": "touch mark"}, -float("inf"),
    {"type": "file", "source": "pipe:touch mark", "channels": [0]}, {"type": "url", "source": "http://localhost/a.wav"},
)  # fmt: skip
"""Values that a field does not expect."""


def odd_text(rng: Rng) -> str:
    """A text of `TEXTS`, of several of them, or of random characters."""
    kind = rng.random()
    if kind < 0.5:
        return TEXTS[int(rng.integers(len(TEXTS)))]
    if kind < 0.7:
        return "".join(TEXTS[int(i)] for i in rng.integers(len(TEXTS), size=3))
    ranges = [(0, 0x80), (0x80, 0x800), (0x800, 0x10000), (0x10000, 0x110000)]
    low, high = ranges[int(rng.integers(len(ranges)))]
    return "".join(map(chr, rng.integers(low, high, size=int(rng.integers(0, 30)))))


def odd_value(rng: Rng) -> Any:
    """A value of `VALUES`, or a text."""
    return odd_text(rng) if rng.random() < 0.4 else deepcopy(VALUES[int(rng.integers(len(VALUES)))])


def changed(value: Any, rng: Rng) -> Any:
    """Nested data in which one to three parts are other ones, are missing, or are there twice."""
    value = deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(value))
        if not places:
            return odd_value(rng)
        owner, key = places[int(rng.integers(len(places)))]
        kind = rng.random()
        if kind < 0.15:
            del owner[key]
        elif kind < 0.25 and isinstance(owner, list):
            owner.append(deepcopy(owner[key]))
        elif kind < 0.35 and isinstance(owner, dict):
            owner[odd_text(rng)] = deepcopy(owner[key])
        elif kind < 0.5:
            other, name = places[int(rng.integers(len(places)))]
            owner[key] = deepcopy(other[name]) if _has(other, name) else None
        else:
            owner[key] = odd_value(rng)
    return value


def _has(owner: Any, key: Any) -> bool:
    return key in owner if isinstance(owner, dict) else key < len(owner)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of nested data, as what holds it and under which key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(items):
        yield value, key
        yield from _places(part)


def as_json(value: Any, rng: Rng) -> bytes:
    """JSON as somebody's program may have written it: with or without escapes, also where that is no UTF-8."""
    text = json.dumps(value, ensure_ascii=bool(rng.random() < 0.5))
    return text.encode("utf-8", "surrogatepass")


def one_of(choices: Sequence[Any], rng: Rng) -> Any:
    """One of them."""
    return choices[int(rng.integers(len(choices)))]


def told(error: Exception) -> None:
    """Fail where an error says nothing."""
    assert str(error), repr(error)
