"""SPICE (arXiv 1607.08822) through its authors' Java program, where the user supplies what that needs.

pycocoevalcap ships the program; the parser that it works with, CoreNLP 3.6.0, is a download of its own. Its wrapper
fetches that without asking, writes into its installed folder, and keeps parses in a cache that recent Java cannot
open; this one does none of it.

G clips.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slap.metrics.captioning.ptb import MissingToolError, ToolFailedError, coco_folder

FOLDER = "SLAP_SPICE"
"""The environment variable that names the folder with the parser's jars."""

JAVA = "SLAP_SPICE_JAVA"
"""The environment variable that names the `java` to run, where it is not the usual one."""

PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
WHERE = "http://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"

PLACES = (".", "lib", "stanford-corenlp-full-2015-12-09", "spice/lib")
"""Where in a folder the jars are looked for: as unpacked, and as pycocoevalcap lays them out."""

LAST_WITH_JAVASCRIPT = 14
"""SPICE writes its scores through Java's JavaScript engine; later Java has none, unless a jar brings one."""


@dataclass(frozen=True)
class Spice:
    """SPICE with all that it needs.

    Attributes:
        java: the program to run.
        jars: the class path.
    """

    java: str
    jars: tuple[Path, ...]

    def score(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """SPICE of each clip, 0 to 1; their mean is that of the corpus.

        Args:
            written: G captions as `slap.metrics.captioning.ptb.ptb_tokenize` gives them.
            references: for each of them one or more, likewise.

        Raises:
            ToolFailedError: the program failed; says what it printed.
        """
        clips = [
            {"image_id": clip, "test": caption, "refs": list(group)}
            for clip, (caption, group) in enumerate(zip(written, references, strict=True))
        ]
        with tempfile.TemporaryDirectory(prefix="slap_spice_") as folder:
            question, answer = Path(folder) / "captions.json", Path(folder) / "scores.json"
            question.write_text(json.dumps(clips))
            self._run(question, answer)
            found = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(answer.read_text())}
        # None is how it writes 0 / 0: neither side says anything that it understands.
        return [float(found[clip] or 0) for clip in range(len(written))]

    def _run(self, question: Path, answer: Path) -> None:
        path = os.pathsep.join(map(str, self.jars))
        command = [self.java, "-Dfile.encoding=UTF-8", "-Xmx8G", "-cp", path, "edu.anu.spice.SpiceScorer"]
        done = subprocess.run(
            [*command, str(question), "-out", str(answer), "-subset", "-silent"], capture_output=True, check=False
        )
        if done.returncode or not answer.is_file() or not answer.stat().st_size:
            said = (done.stderr + done.stdout).decode("utf-8", "replace")
            raise ToolFailedError(f"SPICE failed (exit status {done.returncode}): {said[-1000:]}")


def find_spice(folder: str | Path | None = None) -> Spice:
    """SPICE, if all that it needs is there.

    Args:
        folder: with the two jars of CoreNLP 3.6.0; without it, the one that `SLAP_SPICE` names, or else where
            pycocoevalcap keeps them. Other jars beside them are used too.

    Raises:
        MissingToolError: what is missing, in one line, and where to get it.
        FileNotFoundError: a folder is named, but the jars are not in it.
    """
    own = coco_folder() / "spice"
    named = folder or os.environ.get(FOLDER)
    root = Path(named or own)
    found = next((root / place for place in PLACES if all((root / place / jar).is_file() for jar in PARSER)), None)
    what = f"{' and '.join(PARSER)} (from {WHERE})"
    if found is None and named:
        raise FileNotFoundError(f"SPICE needs {what}; they are not in {root}")
    if found is None:
        raise MissingToolError(f"SPICE needs {what}: unpack it, and name the folder by the option spice or by {FOLDER}")
    java = _java()
    jars = sorted(found.glob("*.jar"))
    release = _release(java)
    if release > LAST_WITH_JAVASCRIPT and not any(jar.name.startswith("nashorn") for jar in jars):
        raise MissingToolError(
            f"SPICE writes its scores through Java's JavaScript engine, which Java {release} lacks: name a `java` "
            f"of release 8 to {LAST_WITH_JAVASCRIPT} by {JAVA}, or put nashorn-core and the ASM jars into {found}"
        )
    # Of the program's own folder all but another parser, which would hide the user's.
    others = [jar for jar in sorted((own / "lib").glob("*.jar")) if not jar.name.startswith("stanford-corenlp")]
    return Spice(java, (own / "spice-1.0.jar", *jars, *others))


def _java() -> str:
    java = os.environ.get(JAVA) or shutil.which("java")
    if java is None:
        raise MissingToolError(f"SPICE needs Java 8 to {LAST_WITH_JAVASCRIPT}: install a JRE, and name it by {JAVA}")
    return java


def _release(java: str) -> int:
    """8 of `1.8.0_292`, 17 of `17.0.15`."""
    said = subprocess.run([java, "-version"], capture_output=True, check=False)
    number = re.search(rb'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if said.returncode or number is None:
        raise ToolFailedError(f"`{java} -version` does not say a version: {(said.stderr + said.stdout)[-300:]!r}")
    return int(number[1])
