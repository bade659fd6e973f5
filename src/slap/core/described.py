"""Descriptions of options as plain data, by which two runs can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

PLAIN = (str, int, float, bool, type(None))


def described(value: Any) -> Any:
    """Return an option as plain data: functions by their names, other objects by their types and attributes.

    Example:
        >>> from fractions import Fraction
        >>> described({"gain": (1, 2), "function": len, "path": PurePath("a/b")})
        {'gain': [1, 2], 'function': 'builtins.len', 'path': 'a/b'}
        >>> described(Fraction(1, 2))
        'fractions.Fraction'
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): described(part) for name, part in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [described(part) for part in (value if isinstance(value, Sequence) else sorted(value, key=str))]
    kind = value if hasattr(value, "__qualname__") else type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    own = {} if kind is value else {key: part for key, part in getattr(value, "__dict__", {}).items() if key[:1] != "_"}
    return {name: described(own)} if own else name
