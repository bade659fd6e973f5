"""The recordings that a command line names by files, folders, globs and manifests, each with an id."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from slap.audio.scan import PassedOver, scan
from slap.audio.sources import Input, Segment
from slap.core.bad_clip import BadClip
from slap.core.errors import UserError, printable
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.tables import is_table


def inputs(
    paths: Iterable[str], failed: list[tuple[str, str]] | None = None, columns: Columns | None = None
) -> list[Input]:
    """Find the recordings that some paths name, in their order, each once.

    A path that is no folder and no manifest is taken for audio whatever its name; in folders the ending decides. A path
    that cannot be looked at, such as a link to itself or a name that is too long, is taken too: reading it says why it
    cannot be used, and the others are used. `~` is the home folder.

    Args:
        paths: files, folders, globs and manifests.
        failed: a list to which the rows of manifests that cannot be used are appended: the clip's id and the reason.
        columns: columns of tables whose names are not the known ones, see `slap.datamodules.manifests.columns`.

    Raises:
        FileNotFoundError: a path or a glob that names nothing.
        ValueError: nothing is named, or two clips have the same id.
    """
    found: dict[str, Input] = {}
    unusable: list[tuple[str, str]] = [] if failed is None else failed
    for path in paths:
        for item in _named(path, unusable, columns):
            if found.setdefault(item.id, item) != item:
                raise UserError(f"two different clips have the id {item.id!r}, {found[item.id].audio} and {item.audio}")
    if not found:
        reasons = "".join(f"\n{reason}" for _, reason in unusable)
        raise UserError(f"there is no audio in {', '.join(paths)}{reasons}")
    return list(found.values())


def _named(path: str, failed: list[tuple[str, str]], columns: Columns | None) -> Iterator[Input]:
    path = os.path.expanduser(path)  # noqa: PTH111  # Path raises for a user that does not exist
    if not _can_be_looked_at(path):
        yield _file(path)
    elif Path(path).is_dir():
        passed = PassedOver()
        for file in scan(Path(path), passed.add):
            yield _file(str(Path(path) / file.path))
        if passed:
            print(printable(f"slap: passed over in {path}: {passed}"), file=sys.stderr)
    elif is_table(path):
        yield from _manifest(path, failed, columns)
    elif Path(path).exists():
        yield _file(path)
    else:
        # The pattern may be absolute, which Path.glob does not take.
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        if not matches:
            raise FileNotFoundError(f"there is no file, and no match of a pattern, {path}")
        for match in matches:
            if not Path(match).is_dir():
                yield _file(match)


def _can_be_looked_at(path: str) -> bool:
    """Return False for a path whose file may be there, but to which the system gives no access."""
    try:
        os.stat(path)  # noqa: PTH116  # Path.exists of some versions of Python hides the error
    except (FileNotFoundError, NotADirectoryError):
        return not Path(path).is_symlink()  # a link to nothing
    except (OSError, ValueError):
        return False
    return True


def _file(path: str) -> Input:
    return Input(path, Segment(path))


def _manifest(path: str, failed: list[tuple[str, str]], columns: Columns | None) -> Iterator[Input]:
    from slap.datamodules.audio.load import segment
    from slap.datamodules.manifests.read import read_manifest  # the data modules wait for Lhotse

    # The good rows of a manifest are used.
    bad: list[BadClip] = []
    for cut in read_manifest(path, max_bad=1.0, bad=bad, columns=columns):
        yield Input(cut.id, segment(cut, path))
    failed += [(clip.id, f"{clip.where}: {clip.detail}") for clip in bad]
