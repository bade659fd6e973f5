"""Reading of the index file beside a manifest, which may come from anywhere as the manifest may.

The file is a zip archive of arrays, stored as they are, so no array can be larger than the file: what is compressed,
and what declares more values than it has, is refused before memory is allocated. The values are checked too: times that
are no times, and places that lie outside, would otherwise surface in the middle of a run.

n cuts in K blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from tokenize import TokenError
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from slap.core.files import open_plain

LONGEST = 1e9
"""Largest duration, seconds."""

COLUMNS = {"durations": "<f8", "keys": "<i8", "origins": "<i8", "firsts": "<i8", "lines": "<i8", "offsets": "<i8"}
OPTIONAL = {"parts": "<i8", "uncaptioned": "<i8"}
ABOUT = "about"
ARRAYS = {**COLUMNS, **OPTIONAL}
"""The arrays of an index of cuts, and the type of their values."""


def read_arrays(path: Path, kinds: Mapping[str, str] = ARRAYS) -> dict[str, np.ndarray]:
    """Read the arrays of an index file.

    Args:
        path: of the file.
        kinds: the type of the values of each array that it may hold, beside `about`, which is bytes.

    Raises:
        ValueError: an array is compressed, declares another size than it has, or is of another type.
        OSError, BadZipFile, KeyError: there is no such file, or it is none.
    """
    with open_plain(path) as file, ZipFile(file) as archive:
        names = [info.filename for info in archive.infolist()]
        known = {**kinds, ABOUT: "|u1"}
        return {
            name.removesuffix(".npy"): _array(archive, name, known.get(name.removesuffix(".npy"))) for name in names
        }


def _array(archive: ZipFile, name: str, wanted: str | None) -> np.ndarray:
    info = archive.getinfo(name)
    if info.compress_type != ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"{name} is compressed")
    with archive.open(name) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is of another version")
        try:
            shape, fortran, kind = np.lib.format.read_array_header_1_0(member)
        except (SyntaxError, TokenError) as error:  # numpy reads it as Python's literals
            raise ValueError(f"the header of {name} is damaged") from error
        raw = member.read()
    if kind.str != wanted or fortran or len(raw) != prod(shape) * kind.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"{name} declares {shape} of {kind.str}, and has {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape)


def check_arrays(arrays: dict[str, np.ndarray], size: int) -> None:
    """Refuse the arrays of an index that cannot be one.

    Args:
        arrays: by name, without `about`.
        size: bytes of the file that holds the blocks.

    Raises:
        ValueError: lengths do not fit, a duration is no positive time, or a place lies outside.
        KeyError: one is missing.
    """
    durations, firsts, offsets = arrays["durations"], arrays["firsts"], arrays["offsets"]
    count, blocks = len(durations), len(arrays["lines"])
    flat = [array for name, array in arrays.items() if name != "origins"]
    if any(array.ndim != 1 for array in flat) or arrays["origins"].ndim != 2 or arrays["origins"].shape[1] != 2:
        raise ValueError("an array has other axes")
    if len(arrays["keys"]) != count or not len(firsts) == len(offsets) == blocks + 1:
        raise ValueError("the lengths of arrays do not fit")
    if not ((durations > 0) & (durations <= LONGEST)).all():
        raise ValueError("a duration is no positive time")
    if not (_ascends(firsts, 0, count) and _ascends(offsets, 0, size) and (arrays["lines"] > 0).all()):
        raise ValueError("blocks do not lie one after the other")
    for numbers in (arrays["origins"][:, 1], arrays.get("uncaptioned", firsts[:0])):
        if not ((numbers >= 0) & (numbers < count)).all():
            raise ValueError("a number of a cut is none")
    if "parts" in arrays and not _ascends(arrays["parts"], 0, count):
        raise ValueError("parts do not lie one after the other")


def _ascends(values: np.ndarray, first: int, last: int) -> bool:
    """Return True if whole numbers ascend, or stay, from one to another."""
    return bool(len(values)) and bool(values[0] == first and values[-1] == last and (np.diff(values) >= 0).all())
