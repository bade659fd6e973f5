"""The recordings that a command line names by files, folders, globs and manifests, each with an id."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

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
        for item in chain.from_iterable(named(path, unusable, columns)):
            if found.setdefault(item.id, item) != item:
                raise UserError(f"two different clips have the id {item.id!r}, {found[item.id].audio} and {item.audio}")
    if not found:
        raise UserError(nothing_in(paths, unusable))
    return list(found.values())


def nothing_in(paths: Iterable[str], unusable: Iterable[tuple[str, str]]) -> str:
    """Write the message about paths that name no recording; `unusable` lists rows of manifests, with reasons."""
    return f"there is no audio in {', '.join(paths)}" + "".join(f"\n{reason}" for _, reason in unusable)


def named(path: str, failed: list[tuple[str, str]], columns: Columns | None) -> Iterator[Sequence[Input]]:
    """Yield the recordings that a path names, in pieces; those of a manifest are made when they are accessed."""
    path = os.path.expanduser(path)  # noqa: PTH111  # Path raises for a user that does not exist
    if not _can_be_looked_at(path):
        yield [_file(path)]
    elif Path(path).is_dir():
        passed = PassedOver()
        yield [_file(str(Path(path) / file.path)) for file in scan(Path(path), passed.add)]
        if passed:
            print(printable(f"slap: passed over in {path}: {passed}"), file=sys.stderr)
    elif is_table(path):
        yield ManifestInputs(path, failed, columns)
    elif Path(path).exists():
        yield [_file(path)]
    else:
        # The pattern may be absolute, which Path.glob does not take.
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        if not matches:
            raise FileNotFoundError(f"there is no file, and no match of a pattern, {path}")
        yield [_file(match) for match in matches if not Path(match).is_dir()]


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


class ManifestInputs(Sequence[Input]):
    """The recordings of a manifest.

    Args:
        path: of the manifest.
        failed: a list to which its rows that cannot be used are appended.
        columns: columns of tables whose names are not the known ones.

    Attributes:
        clips: the clips, see `slap.datamodules.manifests.sequence`.
    """

    def __init__(self, path: str, failed: list[tuple[str, str]], columns: Columns | None) -> None:
        from slap.datamodules.manifests.read import read_manifest  # the data modules wait for Lhotse

        bad: list[BadClip] = []
        self.path, self.clips = path, read_manifest(path, max_bad=1.0, bad=bad, columns=columns)
        failed += [(clip.id, f"{clip.where}: {clip.detail}") for clip in bad]

    def __len__(self) -> int:
        """Return their number."""
        return len(self.clips)

    def __getitem__(self, index: Any) -> Any:
        from slap.datamodules.audio.load import segment

        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        cut = self.clips[index]
        return Input(cut.id, segment(cut, self.path))
