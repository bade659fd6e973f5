"""Models of the `transformers` library: read by name or from a folder, made from a configuration, and described again.

What is described here goes into checkpoints, which then name no hub and no folder.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch

OLDEST = "5.23"
"""The audio encoders run the layers of transformers' models themselves, and older versions name these otherwise."""

NOT_OF_THE_MODEL = {"transformers_version", "architectures", "dtype", "model_type", "_name_or_path"}
"""Entries of a saved configuration that say where it came from."""


def require_transformers() -> None:
    """Check that transformers is there.

    Raises:
        ImportError: it is missing or too old.
    """
    try:
        import transformers
        from packaging.version import Version
    except ImportError as error:
        raise ImportError("this encoder needs transformers: pip install 'slap-audio[hf]'") from error
    if Version(transformers.__version__) < Version(OLDEST):
        raise ImportError(
            f"this encoder needs transformers {OLDEST} or newer, this is {transformers.__version__}: "
            "pip install --upgrade 'slap-audio[hf]'"
        )


def one_at_most(**sources: Any) -> None:
    """Check that arguments that exclude each other are not both given.

    Raises:
        ValueError: more than one of them is not None.
    """
    given = [f"{name}={value!r}" for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            f"{', '.join(sources)} each say what the model is; give one of them, not {' and '.join(given)}"
        )


def read_model(
    kind: type, source: str, revision: str | None = None, unneeded: tuple[str, ...] = (), **settings: Any
) -> Any:
    """The model of a name on the hub or of a folder, in float32, in training mode.

    Args:
        kind: the class of transformers.
        source: a name on the hub or a folder that `save_pretrained` wrote.
        revision: on the hub; default: the newest.
        unneeded: beginnings of the names of weights that may be missing.
        settings: for `from_pretrained`.

    Raises:
        OSError: there is no such folder or name on the hub, or no connection to it.
        ValueError: it is a model of another type, or lacks weights.
    """
    from transformers import AutoConfig

    revision = revision or "main"
    found = AutoConfig.from_pretrained(source, revision=revision).model_type
    wanted = getattr(getattr(kind, "config_class", None), "model_type", found)
    if found != wanted:  # transformers would fill the model with whatever names happen to agree
        raise ValueError(f"{source} is a {found!r} model; this encoder runs {wanted!r} models")
    # In float32 whatever the file holds: precision is the trainer's matter.
    model, report = kind.from_pretrained(  # type: ignore[attr-defined]
        source, revision=revision, dtype=torch.float32, output_loading_info=True, **settings
    )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(unneeded or ("\0",)))
    if missing:
        raise ValueError(f"{source} lacks weights, so they would stay random: {', '.join(missing)}")
    return model.train()  # as new modules are; from_pretrained leaves it in evaluation mode


def make_config(kind: type, size: str | None, config: Mapping[str, Any] | None, sizes: Mapping[str, Any]) -> Any:
    """The configuration of a model with random weights.

    Args:
        kind: the configuration's class in transformers.
        size: a name among `sizes`; default, without `config`: "base".
        config: arguments of `kind`.
        sizes: by name the arguments of `kind`.

    Raises:
        ValueError: an unknown size or argument; lists the valid ones.
    """
    if config is None and (size or "base") not in sizes:
        raise ValueError(f"there is no size {size!r}; valid are: {', '.join(sizes)}")
    options = dict(sizes[size or "base"] if config is None else config)
    known = kind().to_dict()
    unknown = [name for name in options if name not in known]
    if unknown:  # transformers keeps them without a word
        valid = ", ".join(sorted(set(known) - NOT_OF_THE_MODEL))
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}; valid are: {valid}")
    return kind(**options)


def describe_config(config: Any) -> dict[str, Any]:
    """A configuration as plain data, from which `make_config` makes it again."""
    entries = json.loads(config.to_json_string(use_diff=False))
    known = type(config)().to_dict()
    return {name: value for name, value in entries.items() if name in known and name not in NOT_OF_THE_MODEL}


def read_extractor(kind: type, source: str, revision: str | None = None) -> Any:
    """The feature extractor beside a model, see `read_model`.

    Raises:
        OSError: there is none.
        ValueError: it is of another class.
    """
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(source, revision=revision or "main")
    if not isinstance(extractor, kind):
        raise ValueError(f"the feature extractor of {source} is a {type(extractor).__name__}, not a {kind.__name__}")
    return extractor


def make_extractor(kind: type, settings: Mapping[str, Any]) -> Any:
    """A feature extractor from its arguments.

    Raises:
        ValueError: an unknown argument; lists the valid ones.
    """
    valid = _arguments(kind)
    unknown = [name for name in settings if name not in valid]
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}; valid are: {', '.join(valid)}")
    return kind(**settings)


def describe_extractor(extractor: Any) -> dict[str, Any]:
    """A feature extractor as plain data, from which `make_extractor` makes it again."""
    entries = extractor.to_dict()
    return {name: entries[name] for name in _arguments(type(extractor)) if name in entries}


def _arguments(kind: type) -> list[str]:
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return [p.name for p in parameters if p.name != "self" and p.kind is p.POSITIONAL_OR_KEYWORD]


def recompute(model: Any) -> None:
    """Have a model of transformers recompute its layers in the backward pass."""
    # The older name warns where the newer one is there.
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})


def scale_of(lr_scale: float | None, pretrained: str | None) -> float:
    """Return the factor on the learning rate; by default 0.1 for pretrained weights, which training could spoil."""
    return (0.1 if pretrained else 1.0) if lr_scale is None else lr_scale
