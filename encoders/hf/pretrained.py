"""Models of the `transformers` library: reading them, making them from a configuration, and describing them.

Checkpoints hold the descriptions, so that they name no hub and no folder.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch

from slap.core.errors import MissingDependencyError, UserError

OLDEST = "5.23"
"""Oldest version of transformers. The encoders call the layers of its models, which have other names before."""

NOT_OF_THE_MODEL = {"transformers_version", "architectures", "dtype", "model_type", "_name_or_path"}
"""Entries of a saved configuration that describe its origin, not the model."""


LAYERS = ("num_hidden_layers", "encoder_layers", "decoder_layers", "depths")
"""Arguments of configurations that count layers, which transformers makes lists of before any tensor."""

DEEPEST = 1000
"""Largest number of layers."""

LARGEST_BANK = 1 << 26
"""Values of a feature extractor's table of mel filters, and the largest of its numbers."""


def require_transformers() -> None:
    """Check that transformers is installed.

    Raises:
        ImportError: it is missing or too old.
    """
    try:
        import transformers
        from packaging.version import Version
    except ImportError as error:
        raise MissingDependencyError("this encoder needs transformers: pip install 'slap-audio[hf]'") from error
    if Version(transformers.__version__) < Version(OLDEST):
        raise MissingDependencyError(
            f"this encoder needs transformers {OLDEST} or newer, this is {transformers.__version__}: "
            "pip install --upgrade 'slap-audio[hf]'"
        )


def one_at_most(**sources: Any) -> None:
    """Check that at most one of several arguments is given.

    Raises:
        ValueError: more than one of them is not None.
    """
    given = [f"{name}={value!r}" for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{', '.join(sources)} each say what the model is; give one of them, not {' and '.join(given)}")


def read_model(
    kind: type, source: str, revision: str | None = None, unneeded: tuple[str, ...] = (), **settings: Any
) -> Any:
    """Read a model by its name on the hub or from a folder, in float32, in training mode.

    Args:
        kind: the class of transformers.
        source: a name on the hub or a folder that `save_pretrained` wrote.
        revision: branch, tag or commit on the hub. Default: the newest.
        unneeded: prefixes of the names of weights that may be missing.
        settings: arguments of `from_pretrained`.

    Raises:
        OSError: there is no such folder or name on the hub, or no connection to the hub.
        ValueError: the model is of another type, or lacks weights.
    """
    from transformers import AutoConfig

    revision = revision or "main"
    found = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False).model_type
    wanted = getattr(getattr(kind, "config_class", None), "model_type", found)
    if found != wanted:  # transformers would load the weights whose names happen to agree
        raise UserError(f"{source} is a {found!r} model; this encoder runs {wanted!r} models")
    # In float32, also where the file has another precision: the trainer sets the precision.
    model, report = kind.from_pretrained(  # type: ignore[attr-defined]
        source, revision=revision, dtype=torch.float32, output_loading_info=True, trust_remote_code=False, **settings
    )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(unneeded or ("\0",)))
    if missing:
        raise UserError(f"{source} lacks weights, so they would stay random: {', '.join(missing)}")
    return model.train()  # as new modules are; from_pretrained leaves it in evaluation mode


def make_config(kind: type, size: str | None, config: Mapping[str, Any] | None, sizes: Mapping[str, Any]) -> Any:
    """Make the configuration of a model with random weights.

    Args:
        kind: the class of the configuration in transformers.
        size: a name among `sizes`. Default without `config`: "base".
        config: arguments of `kind`.
        sizes: the arguments of `kind` by name of a size.

    Raises:
        ValueError: an unknown size or argument; the message lists the valid ones.
    """
    if config is None and (size or "base") not in sizes:
        raise UserError(f"there is no size {size!r}; valid are: {', '.join(sizes)}")
    options = dict(sizes[size or "base"] if config is None else config)
    known = kind().to_dict()
    unknown = [name for name in options if name not in known]
    if unknown:  # transformers accepts them silently
        valid = ", ".join(sorted(set(known) - NOT_OF_THE_MODEL))
        raise UserError(f"{kind.__name__} has no {', '.join(unknown)}; valid are: {valid}")
    check_layers(options)
    return kind(**options)


def check_layers(config: Mapping[str, Any]) -> None:
    """Refuse a configuration of absurdly many layers.

    Raises:
        ValueError: there are none, or more than `DEEPEST`.
    """
    for name in {*LAYERS} & {*config}:
        counts = config[name] if isinstance(config[name], list | tuple) else [config[name]]
        if len(counts) > DEEPEST or not all(isinstance(count, int) and 0 <= count <= DEEPEST for count in counts):
            raise UserError(f"the configuration has {name}={str(config[name])[:80]}; at most {DEEPEST} layers are made")


def describe_config(config: Any) -> dict[str, Any]:
    """Turn a configuration into plain data, from which `make_config` makes it again."""
    entries = json.loads(config.to_json_string(use_diff=False))
    known = type(config)().to_dict()
    return {name: value for name, value in entries.items() if name in known and name not in NOT_OF_THE_MODEL}


def read_extractor(kind: type, source: str, revision: str | None = None) -> Any:
    """Read the feature extractor of a model, see `read_model`.

    Raises:
        OSError: there is no feature extractor.
        ValueError: it is of another class.
    """
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(source, revision=revision or "main", trust_remote_code=False)
    if not isinstance(extractor, kind):
        raise UserError(f"the feature extractor of {source} is a {type(extractor).__name__}, not a {kind.__name__}")
    return extractor


def make_extractor(kind: type, settings: Mapping[str, Any]) -> Any:
    """Make a feature extractor from its arguments.

    Raises:
        ValueError: an unknown argument; the message lists the valid ones.
    """
    valid = extractor_arguments(kind)
    unknown = [name for name in settings if name not in valid]
    if unknown:
        raise UserError(f"{kind.__name__} has no {', '.join(unknown)}; valid are: {', '.join(valid)}")
    bank = 1.0
    for name, value in settings.items():
        if isinstance(value, int | float) and not abs(value) <= LARGEST_BANK:
            raise UserError(f"{kind.__name__}: {name} is {value}; at most {LARGEST_BANK} is taken")
        bank *= max(abs(value), 1) if name in ("fft_window_size", "n_fft", "feature_size", "num_mel_bins") else 1
    if bank > LARGEST_BANK:
        raise UserError(f"{kind.__name__} would make a table of {bank:g} mel filters; at most {LARGEST_BANK} are made")
    return kind(**settings)


def describe_extractor(extractor: Any) -> dict[str, Any]:
    """Turn a feature extractor into plain data, from which `make_extractor` makes it again."""
    entries = extractor.to_dict()
    return {name: entries[name] for name in extractor_arguments(type(extractor)) if name in entries}


def extractor_arguments(kind: type) -> list[str]:
    """Return the names of the arguments of a feature extractor's class."""
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return [p.name for p in parameters if p.name != "self" and p.kind is p.POSITIONAL_OR_KEYWORD]


def recompute(model: Any) -> None:
    """Set a model of transformers to recompute its layers in the backward pass."""
    # The older name warns where the newer one exists.
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})


def scale_of(lr_scale: float | None, pretrained: str | None) -> float:
    """Return the factor on the learning rate; by default 0.1 for pretrained weights, which training could spoil."""
    return (0.1 if pretrained else 1.0) if lr_scale is None else lr_scale
