"""Files: written whole or not at all, appended by several processes, recognized by size and time; YAML of settings."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from slap.core.errors import UserError, printable
from slap.core.process_state import runs

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic_write(path: str | Path, mode: Literal["w", "wb"] = "w", sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file beside `path`, and move it to `path` when the block ends; after an error, remove it.

    Until then `path` keeps its old content. The folder must exist. A library that opens files itself can write to the
    `name` of the file that is yielded. With `sync`, such files are removed first that killed processes of this machine
    have left.

    Args:
        path: where the content goes.
        mode: "w" for text in UTF-8 with the line ends that are written, "wb" for bytes.
        sync: force the content and its name to the disk, so that they survive a loss of power. Off, it is fast enough
            for thousands of small files that can be made again.

    Raises:
        OSError: the file cannot be written; `path` keeps its old content.

    Example:
        >>> import tempfile
        >>> report = Path(tempfile.mkdtemp()) / "report.txt"
        >>> with atomic_write(report) as file:
        ...     _ = file.write("done")
        >>> report.read_text()
        'done'
    """
    path = Path(path)
    part = part_of(path)
    if sync:
        remove_stale_parts(path)
    text = mode == "w"
    try:
        with part.open(mode, encoding="utf-8" if text else None, newline="" if text else None) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        part.replace(path)
        if sync:
            _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def create_whole(path: Path, text: str) -> None:
    """Create a file with its content in one step, or in two where the file system knows no hard links.

    Raises:
        FileExistsError: there is a file already, or a link of that name.
        OSError: it cannot be written.
    """
    part = part_of(path)
    try:
        part.write_text(text, encoding="utf-8")
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return the name, beside a file, under which this process writes it; the machine and the process are in it."""
    return path.with_name(f"{path.name}.{_host()}.{os.getpid()}.part")


def remove_stale_parts(path: Path, everywhere: bool = False) -> None:
    """Remove the parts of a file that processes of this machine left which have ended.

    Args:
        path: of the file.
        everywhere: remove also those of other machines, since no process there writes to the file any more.
    """
    for part in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        host, _, number = part.name[len(path.name) + 1 : -len(".part")].rpartition(".")
        if host and number.isdecimal() and (everywhere if host != _host() else not runs(int(number))):
            part.unlink(missing_ok=True)


def _host() -> str:
    return re.sub(r"\W", "_", socket.gethostname())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: str | Path, line: str) -> None:
    """Add a line to a file that several processes may add to: with one write, so that lines do not mix.

    Args:
        path: of the file; it and its folder are made when they are missing.
        line: without its end.

    Raises:
        UserError: the file is a link, which may lead anywhere.
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_link(path)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def refuse_link(path: Path) -> None:
    """Refuse to write to a file through a link, which may lead out of the folder that it lies in.

    Raises:
        UserError: there is a link of that name.
    """
    if path.is_symlink():
        raise UserError(
            f"{path} is a link, to {path.readlink()}, and nothing is written through links; remove it, or name another "
            "folder"
        )


def open_plain(path: str | Path) -> BufferedReader:
    """Open a file to read its bytes; a pipe, which would wait for ever, a device and a folder are refused.

    Raises:
        OSError: there is no such file, it is no plain file, or it cannot be read.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "is no plain file", str(path))
    return os.fdopen(file, "rb")


class FileStamp(NamedTuple):
    """The size and time of a file, by which a changed file is recognized without reading it; a list in JSON.

    Attributes:
        size: bytes.
        mtime_ns: nanoseconds since 1970 at which its content was last changed.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str | Path) -> FileStamp:
        """Read the stamp of a file.

        Raises:
            OSError: there is no such file, or it cannot be looked at.
        """
        status = Path(path).stat()
        return cls(status.st_size, status.st_mtime_ns)


def file_inside(folder: Path, name: str, root: Path | None = None) -> Path:
    """Return the path of a file of a folder that others made, by its name.

    Args:
        folder: the folder.
        name: a plain name, e.g. from another file of the folder.
        root: the folder that links may lead to, at any depth; default: `folder`.

    Raises:
        UserError: the name is none, the file is missing, or it is a link to elsewhere.
    """
    if Path(name).name != name or "\0" in name:
        raise UserError(f"{folder}: {printable(name)!r} is refused: it must be the name of a file in this folder")
    path = folder / name
    if not path.is_file():
        there = ", ".join(sorted(printable(other.name) for other in folder.iterdir())) or "nothing"
        raise UserError(f"{folder} has no {name}; it has {there}")
    if not path.resolve().is_relative_to((root or folder).resolve()):
        raise UserError(f"{path} is a link out of its folder, to {path.resolve()}; copy the file if you trust it")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read the object that a JSON file holds.

    Raises:
        UserError: it is no JSON, no UTF-8 text, or no object.
        OSError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold an object, not a {type(found).__name__}")
    return found


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Compute a model's SHA-256, in hexadecimal: of arguments, and of the names, shapes, types and bytes of weights.

    Args:
        arguments: plain data.
        state: the weights by name.
    """
    import torch

    total = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode())
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return total.hexdigest()


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read the mapping that a YAML file holds; an empty file is an empty one.

    Raises:
        ValueError: it is no YAML, no UTF-8 text, or no mapping; tags that would make Python objects are no YAML here.
        OSError: it cannot be read.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as YAML of plain data: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold `name: value`, not a {type(found).__name__}")
    return found
