"""Names of Hugging Face data sets among manifests, and their opening: `hf:PATH?split=train`.

    hf:data/clips                          a folder of `save_to_disk`, of parquet or arrow files, or of audio files
    hf:data/train-*.parquet                files of one kind
    hf:data/clips?split=train&config=en    a split and a configuration, where there are several
    hf:data/clips?streaming=true           read in the order of its files, see `slap.datamodules.huggingface.stream`
    hf:user/name?split=train&hub=true      a data set of the Hub, fetched by the library `datasets`; never unasked

Further keys are known names of columns: `&caption=text&audio=file`. Nothing of a data set is executed: its library runs
no code of data sets, and this package never asks it to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

from slap.core.errors import MissingDependencyError, UserError, suggest
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.columns import known_name
from slap.datamodules.manifests.data_root import refuse_elsewhere

PREFIX = "hf:"
OPTIONS = ("split", "config", "revision", "streaming", "hub")
KINDS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json", ".json": "json", ".csv": "csv"}
"""Readers of the library, by the suffixes of the files they read."""

DICT, STATE = "dataset_dict.json", "state.json"
"""Files in the folders that `save_to_disk` writes, of several splits and of one."""


def is_huggingface(path: str | Path) -> bool:
    """Return True if a manifest is a Hugging Face data set."""
    return str(path).startswith(PREFIX)


@dataclass(frozen=True)
class Source:
    """Data set, as the path of a manifest names it.

    Attributes:
        text: the path as it was given.
        name: path of a folder or of files, or the name on the Hub.
        columns: columns that the path names, by their known names.
        split: name of the split; None if there is one only.
        config: name of the configuration.
        revision: revision of a data set of the Hub.
        streaming: read it in the order of its files, without random access.
        hub: fetch it from the Hub.
    """

    text: str
    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    streaming: bool = False
    hub: bool = False

    @classmethod
    def of(cls, path: str | Path) -> Source:
        """Read the path of a manifest.

        Raises:
            ValueError: an unknown key, or a value that is none.

        Example:
            >>> source = Source.of("hf:data/clips?split=train&caption=text")
            >>> source.name, source.split, source.columns
            ('data/clips', 'train', {'caption': 'text'})
        """
        text = str(path)
        name, _, query = text.removeprefix(PREFIX).partition("?")
        options: dict[str, Any] = {}
        columns: dict[str, str] = {}
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key in ("streaming", "hub"):
                options[key] = _flag(text, key, value)
            elif key in OPTIONS:
                options[key] = value
            elif known_name(key) == key:
                columns[key] = value
            else:
                raise UserError(f"{text}: there is no option {key!r}; {suggest(key, [*OPTIONS, 'audio', 'caption'])}")
        if not name:
            raise UserError(f"{text} names no data set; write hf:PATH, e.g. hf:data/clips?split=train")
        return cls(text, name, columns, **options)

    def open(self, roots: Sequence[str] = ()) -> Any:
        """Return the data set: a `datasets.Dataset`, or a `datasets.IterableDataset` if it is streamed.

        Args:
            roots: folders that its files must lie in, if any; a data set of the hub has none of this machine.

        Raises:
            ManifestError: a file lies elsewhere, or there is no such data set or split, or its library cannot read it.
            MissingDependencyError: the library `datasets` is not installed.
        """
        library = _library()
        library.disable_progress_bars()
        try:
            return self._opened(library, roots)
        except ManifestError:
            raise
        except (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
            raise ManifestError(f"{self.text} cannot be opened: {error.__cause__ or error}") from error

    def _opened(self, library: ModuleType, roots: Sequence[str]) -> Any:
        path = Path(self.name)
        if not self.hub and not path.exists():
            found = sorted(glob(self.name))  # noqa: PTH207
            if not found:
                raise ManifestError(
                    f"there is no folder or file {self.name}; if it is the name of a data set on the Hub, say so: "
                    f"{self.text}{'&' if '?' in self.text else '?'}hub=true"
                )
            return self._files(library, found, roots)
        if path.is_file() and not self.hub:
            return self._files(library, [self.name], roots)
        if not self.hub and ((path / DICT).is_file() or (path / STATE).is_file()):
            return self._saved(library.load_from_disk(self.name), roots)
        builder = library.load_dataset_builder(self.name, self.config, revision=self.revision)
        for files in (getattr(builder.config, "data_files", None) or {}).values():
            self._refuse_elsewhere(() if self.hub else files, roots)
        if builder.dataset_name != "parquet" and hasattr(builder, "BASE_FEATURE") and not self.hub:
            return self._folder(library, builder)
        split = self._chosen(list(builder.info.splits or library.get_dataset_split_names(self.name, self.config)))
        return library.load_dataset(
            self.name, self.config, split=split, revision=self.revision, streaming=self.streaming
        )

    def _files(self, library: ModuleType, files: list[str], roots: Sequence[str]) -> Any:
        self._refuse_elsewhere(files, roots)
        suffixes = {Path(file).suffix for file in files}
        if len(suffixes) > 1 or not suffixes <= KINDS.keys():
            raise ManifestError(f"{self.text}: files of one kind are read: {', '.join(KINDS)}; got {sorted(suffixes)}")
        kind = KINDS[suffixes.pop()]
        return library.load_dataset(kind, data_files=files, split="train", streaming=self.streaming)

    def _refuse_elsewhere(self, files: Iterable[str], roots: Sequence[str]) -> None:
        for file in files:
            refuse_elsewhere(str(file), roots, self.text)

    def _saved(self, found: Any, roots: Sequence[str]) -> Any:
        if isinstance(found, dict):
            found = found[self._chosen(list(found))]
        elif self.split not in (None, str(found.split)):
            raise ManifestError(f"{self.text}: this folder holds one split, {found.split}; leave `split` out")
        self._refuse_elsewhere((file["filename"] for file in found.cache_files), roots)
        return found.to_iterable_dataset(num_shards=len(found.cache_files) or 1) if self.streaming else found

    def _folder(self, library: ModuleType, builder: Any) -> Any:
        """Return a folder of audio files with their paths as text: encoding them would need another decoder."""
        builder.BASE_FEATURE = type(
            "Audio", (library.Audio,), {"encode_example": _as_path, "decode_example": _as_it_is}
        )
        if self.streaming:
            raise ManifestError(f"{self.text}: a folder of audio files is read at random; leave `streaming` out")
        streams = builder.as_streaming_dataset()
        stream = streams[self._chosen(list(streams))]
        features = library.Features({**stream.features, "audio": library.Value("string")})
        return library.Dataset.from_list(list(stream), features=features)

    def _chosen(self, splits: list[str]) -> str:
        """Return the split to read."""
        if self.split is None and len(splits) == 1:
            return splits[0]
        base = (self.split or "").partition("[")[0]
        if self.split is None or base not in splits:
            wanted = "name one" if self.split is None else f"there is no {self.split!r}"
            raise ManifestError(f"{self.text}: the splits are {', '.join(map(str, splits))}; {wanted}: ?split=...")
        return self.split


def _as_path(feature: Any, value: Any) -> str:
    """Return the path of an audio file in place of a feature's encoding of it."""
    del feature
    return str(value)


def _as_it_is(feature: Any, value: Any, **options: Any) -> Any:
    """Return a value in place of a feature's decoding of it."""
    del feature, options
    return value


def _flag(text: str, key: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise UserError(f"{text}: {key} is true or false, got {value!r}")
    return value.lower() == "true"


def _library() -> ModuleType:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "data sets of Hugging Face (hf:...) are read by its library: pip install 'slap-audio[hf-data]'"
        ) from error
    module: ModuleType = datasets
    return module
