"""Run of an evaluation: rows one after the other, each kept when it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slap.core.progress import Progress
from slap.core.software import software
from slap.evaluation import record as records
from slap.evaluation import report
from slap.evaluation.embedding_cache import stamp
from slap.evaluation.eval_set import EvalSet
from slap.evaluation.evaluated_model import EvaluatedModel
from slap.evaluation.plan import EvalRow
from slap.evaluation.tasks.base import Task, TaskResult, UnavailableError
from slap.metrics.captioning.ptb import ToolFailedError


@dataclass(frozen=True)
class Located:
    """The data of a row.

    Attributes:
        clips: the clips.
        manifests: the manifests of the test clips, each with its SHA-256.
        warnings: warnings about overlap with training data.
    """

    clips: EvalSet
    manifests: Sequence[Mapping[str, str]] = ()
    warnings: Sequence[str] = ()


def quiet(line: str) -> None:
    """Take a line and print nothing."""
    del line


@dataclass
class EvaluationRun:
    """Rows to run, and where everything is written.

    Args:
        subject: the model.
        model: description of it, see `slap.evaluation.record.model_record`.
        out: the JSON file; tables and plots stand beside it. None writes nothing.
        locate: the data of a row; raises `UnavailableError`.
        task: makes the task of a row; raises `UnavailableError`.
        options: of the tasks, by task.
        progress: makes progress bars.
        draw: whether to draw plots beside `out`.
        say: receives a line for each event.
        parts: the rows that a row stands for, each with a result of its own. Default: itself.
        kept: a folder in which every row that is done is kept, for other evaluations; None keeps none.
    """

    subject: EvaluatedModel
    model: dict[str, Any]
    out: Path | None
    locate: Callable[[EvalRow], Located]
    task: Callable[[str], Task]
    progress: Progress
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    draw: bool = True
    say: Callable[[str], None] = print
    kept: Path | None = None
    parts: Callable[[EvalRow], Sequence[EvalRow]] = lambda row: [row]

    def run(self, rows: Sequence[EvalRow], known: Mapping[str, Any]) -> dict[str, Any]:
        """Run the rows and write the record after each.

        A row that cannot be run stops no other: it is `skipped` where it was not named and there is no data for it, and
        `failed` otherwise. A row of an earlier record with equal model, clips, prompts, options and software is kept.

        Args:
            rows: in their order.
            known: the record of an earlier run, or nothing.

        Returns:
            The record.
        """
        before = {result["key"]: result for result in known.get("results", [])}
        record: dict[str, Any] = {
            "schema": records.SCHEMA,
            "model": self.model,
            "software": software(),
            "results": [],
            "skipped": [],
            "failed": [],
        }
        for row in rows:
            try:
                for part in self.parts(row):
                    record["results"].append(self._row(part, before))
                    self._write(record)
            except UnavailableError as error:
                record["failed" if row.asked else "skipped"].append({"row": str(row), "reason": str(error)})
                self.say(f"{row}: {'no data' if row.asked else 'skipped'}: {error}")
            except (ValueError, ImportError, OSError, ToolFailedError) as error:
                record["failed"].append({"row": str(row), "reason": f"{type(error).__name__}: {error}"})
                self.say(f"{row}: failed: {error}")
            self._write(record)
        return record

    def _row(self, row: EvalRow, before: Mapping[str, Any]) -> dict[str, Any]:
        task = self.task(row.task)
        located = self.locate(row)
        data, warnings = located.clips, located.warnings
        key = self._key(row, data, warnings)
        known = before.get(key) or self._kept(key)
        if known and self._is_whole(known):
            self.say(f"{row}: done before; --overwrite makes it anew")
            return dict(known)
        result = task.run(self.subject, data, self.progress)
        result.warnings += warnings
        if data.about:
            result.settings = {"about": data.about, **result.settings}
        for warning in result.warnings:
            self.say(f"{row}: {warning}")
        done = {**records.as_record(result), "key": key, "options": dict(self.options.get(row.task, {}))}
        done |= {"manifests": [dict(manifest) for manifest in located.manifests]}
        done |= {"plot_files": self._plots(result), "files": self._files(result)}
        if self.kept is not None:
            self.kept.mkdir(parents=True, exist_ok=True)
            records.write(self.kept / f"{key}.json", done)
        return done

    def _kept(self, key: str) -> dict[str, Any]:
        """Return a row that an earlier evaluation kept; nothing if there is none, or it was cut off."""
        path = None if self.kept is None else self.kept / f"{key}.json"
        if path is None or not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _is_whole(self, known: Mapping[str, Any]) -> bool:
        """Return whether all files of a row that was done are there, its plots included if any are wanted."""
        beside = [*known["plot_files"], *known.get("files", [])]
        if self.out is None:
            return True
        folder = self.out.parent
        drawn = not self.draw or bool(known["plot_files"]) or not known["plots"]
        return drawn and all((folder / file).exists() for file in beside)

    def _key(self, row: EvalRow, data: EvalSet, warnings: Sequence[str]) -> str:
        """Return a hash of what the metrics of a row depend on."""
        clips = [
            (
                clip.id,
                str(clip.audio),
                stamp(str(clip.audio)),
                clip.captions,
                clip.labels,
                clip.origin,
                dict(clip.choices),
                clip.segments,
            )
            for clip in data.clips
        ]
        parts = [clip.part for clip in data.clips]
        folds = [clip.fold for clip in data.clips]
        prompts = self.subject.prompts.current
        name = data.worded_as
        wording = prompts.record(name) if prompts.general or name in prompts.own else {}
        settings = [
            records.SCHEMA,
            str(row),
            self.model["hash"],
            dict(self.options.get(row.task, {})),
            wording,
            software(),
        ]
        of_list = [data.classes, data.official, dict(data.lost), [*data.warnings, *warnings]]
        content = json.dumps([settings, clips, parts, folds, of_list], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _plots(self, result: TaskResult) -> list[str]:
        """Draw the plots into a folder beside the record; their paths from there."""
        if not self.draw or self.out is None:
            return []
        folder = self.out.with_name(f"{self.out.stem}_plots")
        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for name, drawing in sorted(result.plots.items()):
            file = folder / f"{result.task}_{result.dataset}_{name}".replace("/", "_")
            drawing().savefig(file)
            names.append(str(file.relative_to(self.out.parent)))
        return names

    def _files(self, result: TaskResult) -> list[str]:
        """Write what stands beside the record; the paths from there."""
        names: list[str] = []
        if self.out is None:
            return names
        for name, text in sorted(result.files.items()):
            file = f"{self.out.stem}_{result.task}_{result.dataset}_{name}".replace("/", "_")
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.with_name(file).write_text(text, encoding="utf-8")
            names.append(file)
        return names

    def _write(self, record: Mapping[str, Any]) -> None:
        if self.out is None:
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        records.write(self.out, record)
        self.out.with_suffix(".md").write_text(report.markdown(record), encoding="utf-8")
        self.out.with_suffix(".tex").write_text(report.latex(record), encoding="utf-8")
