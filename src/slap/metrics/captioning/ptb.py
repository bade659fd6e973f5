"""The two Java programs of captioning metrics: the PTB tokenizer and METEOR 1.5, as pycocoevalcap ships them.

pycocoevalcap's own wrappers write into its installed folder, lose count of captions with line separators in them, and
leave METEOR running; these do not.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from slap.core.errors import MissingDependencyError

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""Tokens that the field leaves out before scoring: coco-caption's list; brackets, then in lower case, stay."""


class MissingToolError(MissingDependencyError):
    """Something that a metric needs is not installed; the message says what and how to get it."""


class ToolFailedError(RuntimeError):
    """A program that a metric is computed with failed; the message says what it printed."""


def coco_folder() -> Path:
    """Find the folder in which pycocoevalcap is installed.

    Raises:
        MissingToolError: it is not.
    """
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise MissingToolError("captioning metrics need pycocoevalcap: pip install 'slap-audio[captioning]'")
    return Path(spec.submodule_search_locations[0])


def package_folder() -> Path:
    """Find the folder in which pycocoevalcap is installed, with a Java to run its programs.

    Raises:
        MissingToolError: it is not, or there is no Java.
    """
    folder = coco_folder()
    if shutil.which("java") is None:
        raise MissingToolError("captioning metrics need Java (17 is tested): install a JRE, so that `java` is found")
    return folder


def ptb_tokenize(captions: Sequence[str]) -> list[str]:
    """Captions in lower case as tokens separated by spaces, without punctuation.

    Args:
        captions: any text; white space of any kind, line separators too, separates tokens.

    Raises:
        MissingToolError: pycocoevalcap or Java is missing.
        ToolFailedError: the tokenizer failed; says what it printed.
    """
    jar = package_folder() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    lines = "\n".join(" ".join(caption.replace("\0", " ").split()) for caption in captions)
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase"], input=f"{lines}\n".encode(), capture_output=True, check=False
    )
    tokenized = done.stdout.decode("utf-8", "replace").split("\n")
    if done.returncode or len(tokenized) != len(captions) + 1:
        raise ToolFailedError(
            f"the PTB tokenizer gave {len(tokenized) - 1} lines for {len(captions)} captions "
            f"(exit status {done.returncode}): {done.stderr.decode('utf-8', 'replace')[-500:]}"
        )
    return [" ".join(token for token in line.split() if token not in PUNCTUATION) for line in tokenized[:-1]]


@dataclass(frozen=True)
class Meteor:
    """METEOR of G clips.

    Attributes:
        corpus: of all of them.
        clips: of each.
        counts: what it counted in each; `corpus` is what follows from their sums, see `slap.metrics.captioning.meteor`.
    """

    corpus: float
    clips: list[float]
    counts: list[list[float]]


def meteor(written: Sequence[str], references: Sequence[Sequence[str]]) -> Meteor:
    """METEOR 1.5, 0 to 1; English, with its own normalization.

    Args:
        written: captions as `ptb_tokenize` gives them.
        references: for each of them one or more, likewise.

    Raises:
        MissingToolError: pycocoevalcap or Java is missing.
        ToolFailedError: METEOR failed; says what it printed.
    """
    questions = [
        " ||| ".join(("SCORE", *group, caption)).replace("\n", " ")
        for caption, group in zip(written, references, strict=True)
    ]
    with _Meteor() as program:
        stats = [program.ask(question) for question in questions]
        scores = [float(program.ask(" ||| ".join(("EVAL", *stats))))]  # one line a clip, then that of the corpus
        scores += [float(program.answer()) for _ in stats]
    return Meteor(scores[-1], scores[:-1], [[float(number) for number in line.split()] for line in stats])


class _Meteor:
    """The running program; leaving it without an error lets it end, and anything else ends it.

    Raises:
        ToolFailedError: it stopped, or answered something else than numbers.
    """

    def __enter__(self) -> _Meteor:
        options = ["-", "-", "-stdio", "-l", "en", "-norm"]
        self._asked = 0
        self._process = subprocess.Popen(
            ["java", "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", "meteor-1.5.jar", *options],
            cwd=package_folder() / "meteor",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        return self

    def ask(self, line: str) -> str:
        self._asked += 1
        print(line, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()  # closes its input, at which it ends
        if isinstance(error, OSError | ValueError):
            raise ToolFailedError(f"METEOR stopped after {self._asked} questions: {error}") from error
