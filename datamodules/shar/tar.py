"""Headers of tar files, of which no more is read than a name needs."""

# Corpora read tar files too, and are registered wherever plug-ins are: nothing heavy may be imported here.

from __future__ import annotations

import tarfile

SPEAKING = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Types of members that only say a name or properties of the next one; tarfile reads them as a whole."""

LONGEST_NAME = 1 << 20  # bytes of such a member


class BoundedInfo(tarfile.TarInfo):
    """A header of a tar file that does not have much read for a name: a few kB of gzip can hold gigabytes of one."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # the hook that tarfile offers to subclasses
        if self.type in SPEAKING and self.size > LONGEST_NAME:
            raise tarfile.ReadError(f"a name or properties of {self.size} bytes, which are refused")
        return super()._proc_member(tar)  # type: ignore[misc]
