"""The options that decide what a training computes: a continued run has them as they were, or as they are accepted.

Options that change nothing of that are not looked at: where to write, how often to log and to save, on which devices
and in how many parts to compute, how many workers load.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from slap.core.described import described
from slap.core.errors import UserError
from slap.model.network import Network

KEY = "slap_options"
"""The key in a checkpoint of the options of its run."""

ChangedOptions = Literal["refuse", "accept"]

OF_TRAINER = (
    "max_steps",
    "max_epochs",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "precision",
    "limit_train_batches",
    "overfit_batches",
)

FREE = ("compile", "micro_clips")
"""Options of the model that change the cost of a step, and not its result."""

FIXED = {
    "seed_everything": "the random numbers continue from the checkpoint",
    "model.freeze": "the optimizer's state has groups of parameters by it",
    "model.layer_decay": "the optimizer's state has groups of parameters by it",
    "model.lr_scales": "the optimizer's state has groups of parameters by it",
}
"""Options that cannot take effect in a run that continues, with the reason."""

OF_OPTIMIZER = ("model.lr", "model.weight_decay", "model.betas", "model.warmup_steps", "trainer.max_steps")
"""Options whose values the state of the optimizer, or of its schedule, would bring back from the checkpoint."""

log = logging.getLogger(__name__)


def options_of(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return the options of a training, as plain data, by their names on the command line."""
    found = {f"trainer.{name}": getattr(trainer, name) for name in OF_TRAINER}
    best = next((callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)), None)
    if best is not None:
        found |= {"trainer.monitor": best.monitor, "trainer.mode": best.mode}
    given: dict[str, Any] = dict(module.hparams)
    if isinstance(module, Network):
        given = module.portable(given)
    found |= {f"model.{name}": value for name, value in given.items() if name not in FREE}
    data = getattr(trainer.datamodule, "stream_options", {})  # type: ignore[attr-defined]
    found |= {f"data.{name}": value for name, value in data.items()}
    if "PL_GLOBAL_SEED" in os.environ:
        found["seed_everything"] = os.environ["PL_GLOBAL_SEED"]
    # As JSON reads them back, so that what was saved compares equal.
    return {name: json.loads(json.dumps(described(value))) for name, value in found.items()}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the options that differ, each with its values in words; one that a side does not know is not compared.

    Example:
        >>> list(differences({"model.lr": 0.1, "data.augment": {"gain": {"low": 1}}}, {"model.lr": 0.2}))
        [('model.lr', 'model.lr was 0.1 and is 0.2')]
        >>> dict(differences({"data.augment": {"gain": {"low": 1}}}, {"data.augment": {"gain": {"low": 2}, "mix": {}}}))
        {'data.augment': 'data.augment.gain.low was 1 and is 2, data.augment.mix was absent and is {}'}
    """
    for name in before:
        if name in now and (found := list(_parts(before[name], now[name], name))):
            yield name, ", ".join(found)


def _parts(before: Any, now: Any, name: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _parts(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{name}.{key}")
    elif before != now:
        yield f"{name} was {_shown(before)} and is {_shown(now)}"


_ABSENT = object()


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)


def compare(before: Mapping[str, Any], now: Mapping[str, Any], changed: ChangedOptions) -> bool:
    """Compare the options of a run with those of its continuation.

    Args:
        before: those of the checkpoint.
        now: those of this training.
        changed: `refuse` options that differ, or `accept` them.

    Returns:
        Whether the state of the optimizer must be given new values, see `renew`.

    Raises:
        UserError: options differ and are refused, or cannot take effect.
    """
    found = dict(differences(before, now))
    fixed = [f"{text} ({FIXED[name]})" for name, text in found.items() if name in FIXED]
    if fixed:
        raise UserError(
            f"these options cannot change within a run: {'; '.join(fixed)}. Continue with them as they were, or begin "
            "a new run from its weights with a recipe that has the option --model.start"
        )
    if found and changed == "refuse":
        raise UserError(
            f"the run was made with other options: {'; '.join(found.values())}. Continue with them as they were, e.g. "
            "by `--config` with the config.yaml in the run's folder, or with `changed_options` of the trainer set to "
            "`accept` (--trainer.changed_options accept): then they take effect from the next step on"
        )
    for text in found.values():
        log.warning("accepted from here on: %s", text)
    return any(name in OF_OPTIMIZER for name in found)


def renew(trainer: Trainer, module: LightningModule) -> None:
    """Give the optimizer and its schedule the values of this training's options in place of the checkpoint's."""
    made: Any = module.configure_optimizers()
    new, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    (optimizer,), (config,) = trainer.optimizers, trainer.lr_scheduler_configs
    running: Any = config.scheduler
    for group, wanted in zip(optimizer.param_groups, new.param_groups, strict=True):
        group.update({name: value for name, value in wanted.items() if name != "params"})
    running.base_lrs, running.lr_lambdas = [*schedule.base_lrs], [*schedule.lr_lambdas]
    rates = [base * rate(running.last_epoch) for base, rate in zip(running.base_lrs, running.lr_lambdas, strict=True)]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    running._last_lr = rates
