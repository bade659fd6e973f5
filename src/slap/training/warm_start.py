"""Fine-tuning from a trained model: its encoders, tokenizer, pooling and heads as the beginning of a new one.

start = WarmStart.read("runs/mine/best.ckpt")
model = SLAP(**start.arguments(objectives={"contrastive": 1.0}), lr=1e-5)
start.fill(model)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slap.core.errors import UserError
from slap.inference.load import load
from slap.inference.network_backend import NetworkBackend
from slap.inference.rebuild import POOL_DURATION
from slap.model.contracts import AudioEncoder, Classifier, TextEncoder
from slap.model.network import Network
from slap.model.specs import INSTANCE, EncoderSpec, ObjectiveSpec, as_saved

log = logging.getLogger(__name__)

PARTS = ("audio", "audio_pool", "text", "text_pool")
"""The parts that a model always takes from the one that it begins from."""


@dataclass(frozen=True)
class WarmStart:
    """A trained model to begin from.

    Attributes:
        path: the file or folder that it was read from.
        made_with: the arguments of its network, as plain data.
        state: its weights and its tokenizer.
        max_seconds: the longest clip of its training, in seconds.
    """

    path: str
    made_with: Mapping[str, Any]
    state: Mapping[str, Any]
    max_seconds: float

    @classmethod
    def read(cls, path: str | Path) -> WarmStart:
        """Read a checkpoint or a folder of `slap export`, as `slap.load` does.

        Raises:
            ValueError: it is no model of SLAP's own, or `slap.load` refuses it.
            FileNotFoundError: there is no such file or folder.
        """
        backend = load(path, "cpu").backend
        if not isinstance(backend, NetworkBackend):
            raise UserError(
                f"{path} is a {type(backend).__name__}, whose parts are not SLAP's: fine-tuning starts from "
                "a checkpoint or an exported folder of SLAP. Encoders of others are named as `audio` and `text`, "
                "e.g. {name: hf-clap, pretrained: FOLDER}"
            )
        state = backend.network.state_dict()
        return cls(str(path), backend.arguments, state, backend.max_seconds)

    def arguments(
        self,
        objectives: Mapping[str, ObjectiveSpec],
        audio: EncoderSpec | None = None,
        text: EncoderSpec | None = None,
    ) -> dict[str, Any]:
        """Return the arguments of a `SLAP` that begins as this model: its encoders, its pooling and `objectives`.

        Args:
            objectives: the objectives of the new training. One that this model has too keeps the arguments that it was
                made with, but for those that are given here.
            audio: arguments of the audio encoder to change, e.g. of its SpecAugment.
            text: arguments of the text encoder to change.

        Raises:
            ValueError: another encoder is asked for than this model has.
        """
        known = self.made_with["objectives"]
        return {
            "audio": self._changed("audio", audio),
            "text": self._changed("text", text),
            **{name: self.made_with[name] for name in ("embedding_dim", POOL_DURATION) if name in self.made_with},
            "objectives": {name: _with_known(spec, known.get(name)) for name, spec in objectives.items()},
        }

    def fill(self, model: Network) -> list[str]:
        """Give a model these weights. Its other parts stay as they are, and a teacher begins from the new weights.

        Returns:
            The names of the parts that were filled.

        Raises:
            ValueError: a part of the model has other shapes than here, or has no such weights.
        """
        modules: dict[str, nn.Module] = {name: getattr(model, name) for name in PARTS}
        own = {f"objectives.{name}": part for name, part in model.objectives.items()}
        modules |= {name: part for name, part in own.items() if self._of(name) and self._same_classes(name, part)}
        for name, module in modules.items():
            try:
                module.load_state_dict(self._of(name))
            except RuntimeError as error:
                raise UserError(
                    f"`{name}` of {self.path} does not fit the model: it was made with other arguments, "
                    f"{self._made(name)}\n{error}"
                ) from error
        if model.teacher is not None:
            model.teacher.reset()
        new = sorted(set(own) - set(modules))
        left = sorted({f"objectives.{name}" for name in self.made_with["objectives"]} - set(modules))
        log.info("from %s: %s; new: %s; left out: %s", self.path, ", ".join(modules), new or "-", left or "-")
        return list(modules)

    def _same_classes(self, name: str, part: nn.Module) -> bool:
        """Return whether a part that is a classifier has the same classes as before; with others it begins anew."""
        return not isinstance(part, Classifier) or list(part.classes) == self._made(name).get("classes")

    def _of(self, part: str) -> dict[str, Tensor]:
        """Return the state of a part, by the names within the part."""
        return {
            name.removeprefix(f"{part}."): value for name, value in self.state.items() if name.startswith(f"{part}.")
        }

    def _made(self, part: str) -> Any:
        side, _, name = part.partition(".")
        return self.made_with["objectives"].get(name) if name else self.made_with.get(side, self.made_with)

    def _changed(self, side: str, changes: EncoderSpec | None) -> EncoderSpec:
        if isinstance(changes, nn.Module):
            raise UserError(f"the {side} encoder is that of {self.path}; give arguments to change, not an encoder")
        kind = AudioEncoder if side == "audio" else TextEncoder
        trained, other = _in_full(as_saved(kind, self.made_with[side])), _in_full(changes or {})
        if other.get("name", trained["name"]) != trained["name"]:
            raise UserError(
                f"the {side} encoder of {self.path} is {trained['name']!r}; asked for was {other['name']!r}. "
                "Of a model to start from, arguments can be changed, not the encoder"
            )
        return {**trained, **other}


def _in_full(spec: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"name": spec} if isinstance(spec, str) else dict(spec)


def _with_known(spec: ObjectiveSpec, known: Any) -> ObjectiveSpec:
    """Return an objective's specification, with the arguments that it was made with where none are given."""
    if isinstance(spec, nn.Module) or (isinstance(spec, Mapping) and "objective" in spec):
        return spec
    given = dict(spec) if isinstance(spec, Mapping) else {"weight": spec}
    if not isinstance(known, Mapping) or any(str(value).startswith(INSTANCE) for value in known.values()):
        return given
    return {**{name: value for name, value in known.items() if name != "weight"}, **given}
