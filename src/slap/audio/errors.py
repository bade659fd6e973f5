"""Recordings that cannot be used: their error, and the one guard around the libraries that decode."""

from __future__ import annotations

from types import TracebackType

from slap.core.bad_clip import Reason
from slap.core.errors import UserError


class AudioError(UserError):
    """A recording that cannot be used; the message names it and the fault.

    Lhotse wraps errors into others of their type, made of one text.

    Attributes:
        reason: one of `slap.core.bad_clip.REASONS`.
        file: the path of the file; empty if there is none.
    """

    def __init__(self, message: str, reason: Reason = "unreadable", file: str = "") -> None:
        super().__init__(message)
        self.reason, self.file = reason, file


class Guard:
    """A context in which a library works on a file: whatever it raises becomes an `AudioError` that names the file.

    Args:
        name: of the file.
        fault: what the file then cannot do, for the message.
        reason: of the error.
    """

    __slots__ = ("_fault", "_name", "_reason")

    def __init__(self, name: str, fault: str = "cannot be read as audio", reason: Reason = "unreadable") -> None:
        self._name, self._fault, self._reason = name, fault, reason

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None or isinstance(error, AudioError | MemoryError) or not isinstance(error, Exception):
            return
        raise AudioError(f"{self._name} {self._fault}: {said(error)}", self._reason, self._name) from error


def said(error: Exception) -> str:
    """Return the message of a library's error, without the names of its classes and its numbers."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    text = text.removeprefix("Error : ").strip().rstrip(".") or "its decoder failed"
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
