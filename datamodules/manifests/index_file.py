"""Reading of the index file beside a manifest, which may come from anywhere as the manifest may.

The file is a zip archive of arrays, stored as they are, so no array can be larger than the file: what is compressed,
and what declares more values than it has, is refused before memory is allocated. The values are checked too: times that
are no times, and places that lie outside, would otherwise surface in the middle of a run. Durations and fingerprints of
very many cuts stay in the file, and are checked when they are read.

n cuts in K blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from slap.core.files import open_plain
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.stored import Array, Stored, StoredArray

LOCAL = 30
"""Bytes of the header before a member of a zip archive, without its name."""

LONGEST = 1e9
"""Largest duration, seconds."""

COLUMNS = {"durations": "<f8", "keys": "<i8", "origins": "<i8", "firsts": "<i8", "lines": "<i8", "offsets": "<i8"}
OPTIONAL = {"parts": "<i8", "uncaptioned": "<i8"}
ABOUT = "about"
LARGE = 1 << 25
"""Bytes of an array above which it may stay in the file: 4 million cuts."""

LEFT = ("durations", "keys")
"""Arrays of an index of cuts that stay in the file if they are large."""
ARRAYS = {**COLUMNS, **OPTIONAL}
"""The arrays of an index of cuts, and the type of their values."""


def read_arrays(path: Path, kinds: Mapping[str, str] = ARRAYS, left: Sequence[str] = ()) -> dict[str, Array]:
    """Read the arrays of an index file.

    Args:
        path: of the file.
        kinds: the type of the values of each array that it may hold, beside `about`, which is bytes.
        left: arrays that stay in the file if they are large.

    Raises:
        ValueError: an array is compressed, declares another size than it has, or is of another type.
        OSError, BadZipFile, KeyError: there is no such file, or it is none.
    """
    with open_plain(path) as file, ZipFile(file) as archive:
        names = [info.filename for info in archive.infolist()]
        known = {**kinds, ABOUT: "|u1"}
        return {
            name.removesuffix(".npy"): _array(
                archive, path, name, known.get(name.removesuffix(".npy")), name.removesuffix(".npy") in left
            )
            for name in names
        }


def _array(archive: ZipFile, path: Path, name: str, wanted: str | None, left: bool) -> Array:
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
        if left and info.file_size > LARGE:
            return _left(path, info, member.tell(), shape, fortran, kind, wanted)
        raw = member.read()
    if kind.str != wanted or fortran or len(raw) != prod(shape) * kind.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"{name} declares {shape} of {kind.str}, and has {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape)


def _left(
    path: Path, info: ZipInfo, header: int, shape: tuple[int, ...], fortran: bool, kind: np.dtype, wanted: str | None
) -> StoredArray:
    """Return an array that stays in the file."""
    if kind.str != wanted or fortran or len(shape) != 1 or shape[0] * kind.itemsize != info.file_size - header:
        raise ValueError(f"{info.filename} declares {shape} of {kind.str}, and has {info.file_size - header} bytes")
    with open_plain(path) as file:
        file.seek(info.header_offset)
        local = file.read(LOCAL)
        if local[:4] != b"PK\x03\x04":
            raise ValueError(f"{info.filename} has no header in the file")
        begin = info.header_offset + LOCAL + sum(struct.unpack("<HH", local[26:30]))
        if begin + info.file_size > file.seek(0, 2):
            raise ValueError(f"{info.filename} reaches beyond the file")
    check = partial(_check_durations, path) if info.filename.startswith("durations") else None
    return StoredArray(path, begin + header, shape[0], kind, check)


def _check_durations(path: Path, durations: np.ndarray) -> None:
    if not ((durations > 0) & (durations <= LONGEST)).all():
        raise ManifestError(f"{path} is damaged: a duration is no positive time; remove it, and it is made again")


def check_arrays(arrays: dict[str, Any], size: int) -> None:
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
    if not isinstance(durations, Stored) and not ((durations > 0) & (durations <= LONGEST)).all():
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
