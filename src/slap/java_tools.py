"""The two Java programs that captioning is judged with, the PTB tokenizer and METEOR 1.5, as pycocoevalcap ships them.

pycocoevalcap's own wrappers write into its installed folder, lose count of captions with line separators in them, and
leave METEOR running; these do not.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""Tokens that the field leaves out before scoring: coco-caption's list; brackets, then in lower case, stay."""


class MissingToolError(ImportError):
    """Something that a metric needs is not installed; the message says what and how to get it."""


def package_folder() -> Path:
    """Where pycocoevalcap is installed.

    Raises:
        MissingToolError: it is not, or there is no Java.
    """
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise MissingToolError("captioning metrics need pycocoevalcap: pip install 'slap-audio[captioning]'")
    if shutil.which("java") is None:
        raise MissingToolError("captioning metrics need Java (17 is tested): install a JRE, so that `java` is found")
    return Path(spec.submodule_search_locations[0])


def ptb_tokenize(captions: Sequence[str]) -> list[str]:
    """Captions in lower case as tokens separated by spaces, without punctuation.

    Args:
        captions: any text; white space of any kind, line separators too, separates tokens.

    Raises:
        MissingToolError: pycocoevalcap or Java is missing.
        RuntimeError: the tokenizer failed; says what it printed.
    """
    jar = package_folder() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    lines = "\n".join(" ".join(caption.replace("\0", " ").split()) for caption in captions)
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase"], input=f"{lines}\n".encode(), capture_output=True, check=False
    )
    tokenized = done.stdout.decode("utf-8", "replace").split("\n")
    if done.returncode or len(tokenized) != len(captions) + 1:
        raise RuntimeError(
            f"the PTB tokenizer gave {len(tokenized) - 1} lines for {len(captions)} captions "
            f"(exit status {done.returncode}): {done.stderr.decode('utf-8', 'replace')[-500:]}"
        )
    return [" ".join(token for token in line.split() if token not in PUNCTUATION) for line in tokenized[:-1]]


def meteor(written: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """METEOR 1.5 of the corpus, and of each clip, 0 to 1; English, with its own normalisation.

    Args:
        written: captions as `ptb_tokenize` gives them.
        references: for each of them one or more, likewise.

    Raises:
        MissingToolError: pycocoevalcap or Java is missing.
        RuntimeError: METEOR failed; says what it printed.
    """
    folder = package_folder() / "meteor"
    command = [
        "java",
        "-Dfile.encoding=UTF-8",
        "-Xmx2G",
        "-jar",
        "meteor-1.5.jar",
        "-",
        "-",
        "-stdio",
        "-l",
        "en",
        "-norm",
    ]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(line: str) -> str:
            print(line, file=process.stdin, flush=True)
            return process.stdout.readline().strip()  # type: ignore[union-attr]

        try:
            stats = [
                ask(" ||| ".join(("SCORE", *group, caption)).replace("\n", " "))
                for caption, group in zip(written, references, strict=True)
            ]
            scores = [float(ask(" ||| ".join(("EVAL", *stats))))]  # one line a clip, then that of the corpus
            scores += [float(process.stdout.readline()) for _ in stats]
        except (OSError, ValueError) as error:
            process.kill()
            raise RuntimeError(f"METEOR stopped after {len(written)} captions were given to it: {error}") from error
        process.stdin.close()
    return scores[-1], scores[:-1]
