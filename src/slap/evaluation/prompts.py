"""Prompt sets: the words around a label, as data (`prompts.toml`), by name, with a hash that pins them.

K classes.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from slap.core.errors import UserError, suggest
from slap.metrics.zero_shot import class_prompts

log = logging.getLogger(__name__)

DEFAULT = "default"

FIELDS = ("templates", "texts", "words")


@dataclass(frozen=True)
class Wording:
    """Texts of the labels of one data set.

    Attributes:
        templates: each with `{label}`.
        texts: or, for each label, whole texts.
        words: the word for a label in the templates, where that is not the label.
    """

    templates: tuple[str, ...] = ()
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    def of(self, classes: Sequence[str]) -> list[list[str]]:
        """Write the prompts of each of K classes.

        Raises:
            ValueError: there are texts, but none for a class, or a label that is misspelled.
        """
        self._check_labels(classes)
        if not self.texts:
            return class_prompts([self.words.get(name, name) for name in classes], self.templates)
        absent = [name for name in classes if name not in self.texts]
        if absent:
            raise UserError(f"the prompts have no text for {absent}; there are texts for {[*self.texts]}")
        return [list(self.texts[name]) for name in classes]

    def _check_labels(self, classes: Sequence[str]) -> None:
        """Refuse a label that is no class but nearly one without words; log others, which no clip may have."""
        named = {**self.texts, **self.words}
        without = [name for name in classes if name not in named]
        unknown = [name for name in named if name not in classes]
        for name in unknown:
            if near := difflib.get_close_matches(name, without, n=1, cutoff=0.8):
                raise UserError(f"the prompts have words for {name!r}, which is no label; did you mean {near[0]!r}?")
        if unknown:
            log.warning("no clip has a label of these for which there are prompts: %s", ", ".join(unknown))

    def plain(self) -> dict[str, Any]:
        """Return what is set, as plain data."""
        parts = {
            "templates": list(self.templates),
            "texts": {label: list(texts) for label, texts in self.texts.items()},
            "words": dict(self.words),
        }
        return {name: value for name, value in parts.items() if value}


@dataclass(frozen=True)
class PromptSet:
    """The wordings of one set.

    Attributes:
        name: of the set.
        about: its source.
        general: for data sets without a wording of their own; None if there is none.
        own: by data set.
    """

    name: str
    about: str
    general: Wording | None
    own: Mapping[str, Wording]

    def wording(self, dataset: str) -> Wording:
        """Return the wording for a data set.

        Raises:
            ValueError: the set has none.
        """
        found = self.own.get(dataset, self.general)
        if found is None:
            raise UserError(
                f"the prompt set {self.name!r} has no prompts for {dataset}, only for {', '.join(self.own)}"
            )
        return found

    def record(self, dataset: str) -> dict[str, Any]:
        """Describe the prompts of a result: the set's name, its words, and a hash of them."""
        plain = self.wording(dataset).plain()
        pinned = hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
        return {"set": self.name, **plain, "sha256": pinned[:16]}


@dataclass(frozen=True)
class PromptBook:
    """All prompt sets, and the one in use.

    Attributes:
        sets: by name.
        chosen: the one in use.
    """

    sets: Mapping[str, PromptSet]
    chosen: str = DEFAULT

    @classmethod
    def built_in(cls, chosen: str = DEFAULT, more: Sequence[Path] = ()) -> PromptBook:
        """Read the sets of this package and of some files.

        Args:
            chosen: the set to use.
            more: TOML files with further sets, see `prompts.toml` beside this file.

        Raises:
            ValueError: there is no such set, a file is not in this form, or names a set that there is.
            FileNotFoundError: a file is not there.
        """
        sets = parse(files("slap.evaluation").joinpath("prompts.toml").read_text(encoding="utf-8"), "prompts.toml")
        for path in more:
            for name, found in parse(path.read_text(encoding="utf-8-sig"), str(path)).items():
                if name in sets:
                    raise UserError(f"{path}: there is a prompt set {name!r} already; give yours another name")
                sets[name] = found
        if chosen not in sets:
            raise UserError(f"there is no prompt set {chosen!r}; {suggest(chosen, sets)}")
        return cls(sets, chosen)

    @property
    def current(self) -> PromptSet:
        """The set in use."""
        return self.sets[self.chosen]


def parse(text: str, where: str) -> dict[str, PromptSet]:
    """Parse the prompt sets of a TOML text, by name.

    Args:
        text: see the head of `prompts.toml`.
        where: the file, for messages.

    Raises:
        ValueError: it is not in this form; names the set and what is accepted.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where}: this is not TOML: {error}") from error
    return {name: _set(name, table, f"{where}, [{name}]") for name, table in content.items()}


def _set(name: str, table: Any, where: str) -> PromptSet:
    if not isinstance(table, dict):
        raise UserError(f"{where}: a prompt set is a table with `templates`, or with a table for each data set")
    plain = {key: value for key, value in table.items() if key in FIELDS}
    own = {key: value for key, value in table.items() if isinstance(value, dict) and key not in FIELDS}
    unknown = [key for key in table if key not in plain and key not in own and key != "about"]
    if unknown:
        raise UserError(f"{where}: {suggest(unknown[0], ['about', *FIELDS])}; or a table for a data set")
    if not plain and not own:
        raise UserError(f"{where}: there are no prompts; give `templates`, or a table for each data set")
    return PromptSet(
        name,
        " ".join(str(table.get("about", "")).split()),
        _wording(plain, where) if plain else None,
        {dataset: _wording(value, f"{where[:-1]}.{dataset}]") for dataset, value in own.items()},
    )


def _wording(table: Mapping[str, Any], where: str) -> Wording:
    unknown = [key for key in table if key not in FIELDS]
    if unknown:
        raise UserError(f"{where}: there is no {unknown[0]!r} here; {suggest(unknown[0], FIELDS)}")
    templates, texts, words = (table.get(key, {}) for key in FIELDS)
    if bool(templates) == bool(texts):
        raise UserError(f"{where}: give either `templates` or `texts`, and not empty")
    if templates and not (_is_texts(templates) and all("{label}" in template for template in templates)):
        raise UserError(f"{where}: `templates` is a list of texts with {{label}}, got {templates!r}")
    if texts and not (isinstance(texts, dict) and all(_is_texts(value) for value in texts.values())):
        raise UserError(f"{where}: `texts` maps labels to lists of texts, got {texts!r}")
    if words and not (isinstance(words, dict) and _is_texts(list(words.values()))):
        raise UserError(f"{where}: `words` maps labels to texts, got {words!r}")
    return Wording(tuple(templates or ()), {label: tuple(value) for label, value in (texts or {}).items()}, dict(words))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)
