"""A file becomes windows of samples, or a reason why not.

T samples of a window at the model's rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from slap.audio.reader import AudioError, blocks
from slap.audio.scan import Found, content_hash
from slap.core.windows import cut


@dataclass(frozen=True)
class Window:
    """A stretch of a file.

    Attributes:
        file: that it is of.
        start: seconds.
        end: seconds.
        samples: (T,) float32, mono.
    """

    file: Found
    start: float
    end: float
    samples: Tensor


@dataclass(frozen=True)
class Whole:
    """A file was read to its end, all its windows came before.

    Attributes:
        file: the file.
        hash: of its bytes.
        duration: seconds.
    """

    file: Found
    hash: str
    duration: float


@dataclass(frozen=True)
class Known:
    """A file whose bytes were read before, here or at another place; its windows need no model.

    Attributes:
        file: the file.
        hash: of its bytes.
    """

    file: Found
    hash: str


@dataclass(frozen=True)
class Bad:
    """A file that is not indexed, which may show only after some of its windows.

    Attributes:
        file: the file.
        reason: `absent`, `unreadable`, `empty` or `silent`.
        detail: what a person needs to know to mend it.
    """

    file: Found
    reason: str
    detail: str


Item = Window | Whole | Known | Bad


@dataclass(frozen=True)
class Reader:
    """Reads files of a folder in windows.

    Attributes:
        folder: the folder.
        rate: Hz, the model's.
        window: seconds.
        hop: seconds.
        claims: by hash, contents whose windows are known or being read; grows.
    """

    folder: Path
    rate: int
    window: float
    hop: float
    claims: dict[str, object]

    def __call__(self, file: Found, anew: bool = False) -> Iterator[Item]:
        """The windows of a file, then `Whole`; or `Known`; or `Bad`.

        Args:
            file: the file.
            anew: read it even if its content is known.
        """
        path = self.folder / file.path
        if file.name != file.path:
            yield Bad(file, "unreadable", "its name is not UTF-8; rename it")
        elif file.size == 0:
            yield Bad(file, "empty", "it has no bytes")
        else:
            try:
                content, claim = content_hash(path), object()
                if self.claims.setdefault(content, claim) is claim or anew:  # one thread only finds its own
                    yield from self._windows(file, path, content)
                else:
                    yield Known(file, content)
            except FileNotFoundError:
                yield Bad(file, "absent", "it was removed while it was to be read")
            except (AudioError, OSError) as error:
                yield Bad(file, "unreadable", str(error))

    def _windows(self, file: Found, path: Path, content: str) -> Iterator[Item]:
        """Windows that are silent all through say nothing and are left out."""
        end, sound = 0.0, False
        for start, samples in cut(blocks(path, self.rate), round(self.window * self.rate), round(self.hop * self.rate)):
            end = (start + len(samples)) / self.rate
            if samples.any():
                sound = True
                yield Window(file, start / self.rate, end, samples)
        yield Whole(file, content, end) if sound else Bad(file, "silent", f"all of its {end:.2f} s are digital silence")
