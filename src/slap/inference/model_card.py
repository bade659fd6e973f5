"""The model card: a description of the model, its training data and its metrics, and how to load it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from slap.core.errors import printable
from slap.core.files import read_yaml, sha256_of
from slap.inference.network_backend import NetworkBackend

MARKS = re.compile(r"[\\`*\[\]<>#|&]")
"""Characters that Markdown and HTML read as something else."""

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Card:
    """The facts that a model card states beyond the model itself.

    Attributes:
        name: of the model.
        licence: of the weights, an identifier of the hub's such as `apache-2.0`.
        data: the training data, a line each.
        steps: optimizer steps that it was trained for.
        stored_in: half precision of the weights in the file; None for the one that they were trained in.
        kept: sections of an earlier card of the model, Markdown by title, which take the place of those from `data` and
            `results`.
        results: by metric `value`, `low`, `high`, `chance` and `count`, in percent, as `slap test` writes them; with
            several test sets, the names begin with the set's.
    """

    name: str = "A SLAP model"
    licence: str = NOT_STATED
    data: Sequence[str] = ()
    steps: int | None = None
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    stored_in: str | None = None
    kept: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_run(cls, checkpoint: Path, steps: int | None, licence: str = NOT_STATED) -> Card:
        """Collect the facts about a checkpoint from its run's folder; of paths, only the file's name is taken."""
        folder = checkpoint.resolve().parent
        return cls(folder.name, licence, _data(folder / "config.yaml"), steps, _results(checkpoint.resolve()))


def _data(config: Path) -> list[str]:
    if not config.is_file():
        return []
    options = read_yaml(config)
    train = (options.get("data") or {}).get("train")
    lines = [f"recipe {code(options['recipe'])}"] if isinstance(options.get("recipe"), str) else []
    values = [*train.values()] if isinstance(train, dict) else [train]
    paths = [path for value in values if value for path in (value if isinstance(value, list) else [value])]
    return lines + [code(Path(str(path)).name) for path in paths]


def _results(checkpoint: Path) -> dict[str, Any]:
    """Return the metrics of this very checkpoint among those that `slap test` left in the run's folder."""
    files = sorted(checkpoint.parent.glob("test/*/results.json"))
    records = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}
    known = sha256_of(checkpoint) if records and checkpoint.is_file() else None
    own = {name: record["metrics"] for name, record in records.items() if record["model"]["sha256"] == known}
    if len(own) == 1:
        return dict(next(iter(own.values())))
    return {f"{name}: {metric}": result for name, metrics in own.items() for metric, result in metrics.items()}


def write_card(backend: NetworkBackend, card: Card, arguments: Mapping[str, Any], use: str | None = None) -> str:
    """Write the card in Markdown, with the metadata that the hub reads.

    Args:
        backend: the model.
        card: the facts beyond the model itself.
        arguments: those of the network that is saved, which may lack objectives of the model.
        use: how the folder is loaded. Default: as `slap export` writes it.
    """
    network = backend.network
    licence = "other" if card.licence == NOT_STATED else card.licence
    head = f"---\nlibrary_name: slap\nlicense: {_scalar(licence)}\npipeline_tag: zero-shot-audio-classification\n"
    head += "tags:\n- audio\n- clap\n- slap\n---\n"
    rows = {
        "audio encoder": f"{code(json.dumps(arguments['audio']))}, {_millions(network.audio)}",
        "text encoder": f"{code(json.dumps(arguments['text']))}, {_millions(network.text)}",
        "objectives kept": ", ".join(map(code, arguments["objectives"])) or "none",
        "shared dimension": str(backend.embedding_dim),
        "sample rate": f"{backend.sample_rate} Hz, mono; other audio is resampled, and its channels become one",
        "longest clip in one pass": f"{backend.max_seconds:g} s; longer audio goes in overlapping windows",
        "training steps": NOT_STATED if card.steps is None else str(card.steps),
        "licence of the weights": plain(card.licence),
    }
    if card.stored_in:
        rows["precision of the file"] = f"{card.stored_in}; loaded, and computed with, in float32"
    if backend.leading_dims:
        rows["shared dimension"] += f"; the leading {', '.join(map(str, backend.leading_dims[1:]))} serve alone, too"
    if backend.weights == "ema":
        rows["weights"] = "exponential moving averages of those that were trained"
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
    data = "\n".join(f"- {line}" for line in card.data) or "Not stated."
    sections = {"Training data": data, "Metrics": _metrics(card), **card.kept}
    return "\n\n".join(
        [
            head + f"\n# {plain(card.name)}",
            "A language-audio model (SLAP, arXiv 2601.12594): sounds and texts in one space, of any duration.",
            table,
            *(f"## {title}\n\n{body}" for title, body in sections.items()),
            f"## Use\n\n{use or _USE}",
            f"## Limits\n\n{_LIMITS}\n",
        ]
    )


def plain(text: str) -> str:
    r"""Escape a text so that Markdown shows it as it is, also in a table.

    Example:
        >>> print(plain("a_b | <img src=x> [c](d)"))
        a_b \| \<img src=x\> \[c\](d)
    """
    return MARKS.sub(r"\\\g<0>", printable(text))


def code(text: str) -> str:
    r"""Write a text as code in Markdown, also in a table and if it has backticks in it.

    Example:
        >>> print(code("a.csv"), code("a`b|c"))
        `a.csv` `` a`b\|c ``
    """
    shown = printable(text).replace("|", r"\|")
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence, space = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{space}{shown}{space}{fence}"


def _scalar(text: str) -> str:
    """Write a text as a value of YAML."""
    return text if re.fullmatch(r"[\w.+-]+", text) else json.dumps(text)


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M parameters"


def _metrics(card: Card) -> str:
    if not card.results:
        return "None were found beside the checkpoint."
    lines = ["On held-out clips, as `slap test` left them in the run's folder:", ""]
    lines += ["| metric | value | 95 % interval | chance | count |", "|---|---:|---:|---:|---:|"]
    for name, result in card.results.items():
        interval = f"{result['low']:.1f} to {result['high']:.1f}"
        lines.append(
            f"| {plain(name)} | {result['value']:.1f} | {interval} | {result['chance']:.1f} | {result['count']} |"
        )
    return "\n".join(lines)


_USE = """```bash
pip install slap-audio
slap classify FOLDER sound.wav --labels "dog" "rain"
```

```python
import slap

model = slap.load("FOLDER")
model.classify("sound.wav", ["dog", "rain"])
model.embed_audio(["sound.wav"]) @ model.embed_text(["a dog barks"]).T
```

`FOLDER` is the folder of this file. Nothing in it is unpickled, and its checksum is verified."""

_LIMITS = """\
C tell which of some texts fits best; how high they are differs from text to text. Probabilities are those of the
training data: fit them to your own with `model.calibrate`. A model knows the kinds of sounds and the wording that it
was trained on, and repeats what is one-sided about them."""
