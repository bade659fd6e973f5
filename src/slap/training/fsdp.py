"""FSDP2: each process keeps a part of every large parameter, of its gradient, its moments and its teacher's copy.

Use it by `strategy="fsdp2"` of the trainer. Blocks of encoders and decoders are gathered one at a time, when they are
computed. A module that is called by other methods than `forward` lists these as `entrances`. Scalars, and the
parameters that belong to an objective directly, stay whole on every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_parts
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import SUPPORTED_NODES, register_pytree_node

from slap.core.checkpoint_file import read
from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.core.sharded_tensors import is_shard
from slap.model.contracts import Objective
from slap.model.network import Network

FSDP2 = "fsdp2"
"""The strategy's name."""


class Sharded(ModelParallelStrategy):
    """Lightning's ModelParallelStrategy over all processes of all nodes, with a checkpoint in a single file.

    The checkpoint is gathered on the first process, so it loads on any number of processes and without FSDP2.
    """

    def __init__(self, save_distributed_checkpoint: bool = False, **options: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=save_distributed_checkpoint, **options)

    def setup_environment(self) -> None:
        """Make one data-parallel group of all processes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Verify and load a checkpoint, whichever strategy saved it.

        Lightning's own method would take the numbers of an optimizer's parameters for positions in the model. Without
        FSDP2 they are positions in the optimizer's groups, and moments would go to other parameters. It would also
        leave out all state that is no parameter and no buffer: the tokenizer and the names of classes.

        Raises:
            DamagedCheckpointError: the file is not what was saved.
            RuntimeError: the checkpoint has other state than the model, as `torch.nn.Module.load_state_dict` raises it.
            ValueError: its optimizer has other groups of parameters.
        """
        path = Path(self.broadcast(checkpoint_path))
        assert self.model is not None
        assert self.lightning_module is not None
        if not path.is_file():  # but a folder, with one file per process
            _load_extra_states(path, self.model)
            return super().load_checkpoint(path, weights_only)
        content: dict[str, Any] = read(path, weights_only=weights_only, mmap=True)
        strict = self.lightning_module.strict_loading
        self.model.load_state_dict(_spread_like(self.model, content.pop("state_dict")), strict=strict)
        # No optimizer, no state: in evaluation, or of weights alone, which Lightning refuses to continue from.
        for optimizer, saved in zip(self.optimizers, content.get("optimizer_states", ()), strict=False):
            optimizer.load_state_dict(_moments_like(optimizer, saved))
        return content


if FSDP2 not in StrategyRegistry.available_strategies():
    StrategyRegistry.register(FSDP2, Sharded, description="parameters spread over all processes (slap.training.fsdp)")


def _spread_like(model: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole state with this process's part of each tensor of which the model has a part, nothing else changed.

    So the model's own `load_state_dict` sees all of it: extra state, names that are absent or too many, other shapes.
    """
    parts = {name: value for name, value in model.state_dict().items() if isinstance(value, DTensor)}
    return {name: _part_of(value, parts[name]) if name in parts else value for name, value in state.items()}


def _part_of(whole: Tensor, like: DTensor) -> Tensor:
    if whole.shape != like.shape:
        return whole  # a scalar, or refused with both shapes
    # Every process reads the file itself, so nothing is sent.
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def _load_extra_states(folder: Path, model: nn.Module) -> None:
    """Give a model the extra states of a checkpoint in parts first, since they decide the sizes of other tensors.

    Raises:
        RuntimeError: the checkpoint lacks a state, or has one that the model lacks.
    """
    start, end = "state_dict.", "_extra_state"
    saved = FileSystemReader(folder).read_metadata().state_dict_metadata
    found = {
        name.removeprefix(start): torch.empty(kind.size, dtype=kind.properties.dtype)
        for name, kind in saved.items()
        if name.startswith(start) and name.endswith(end) and isinstance(kind, TensorStorageMetadata)
    }
    wanted = {name for name in model.state_dict() if name.endswith(end)}
    if wanted != found.keys():
        raise RuntimeError(
            f"Error(s) in loading state_dict: {folder} has the extra states {sorted(found)}, the model {sorted(wanted)}"
        )
    load_parts({"state_dict": found}, checkpoint_id=folder)
    for name, state in found.items():
        owner = model.get_submodule(name.rpartition(".")[0])
        owner.set_extra_state(state)


def _moments_like(optimizer: Optimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optimizer's saved state with this process's part of each moment of a parameter that is spread.

    A parameter that never had a gradient has no moments, before and after.
    """
    groups = [group["params"] for group in optimizer.param_groups]
    found = [group["params"] for group in saved["param_groups"]]
    if list(map(len, groups)) != list(map(len, found)):
        raise UserError(
            f"the checkpoint's optimizer has groups of {', '.join(str(len(group)) for group in found)} parameters, "
            f"and this run's of {', '.join(str(len(group)) for group in groups)}: the model, or what decays or learns "
            "at which rate, is another"
        )
    parameters = dict(zip(chain(*found), chain(*groups), strict=True))
    state = {
        number: {name: _moment_like(parameters[number], value) for name, value in moments.items()}
        for number, moments in saved["state"].items()
    }
    return {"state": state, "param_groups": saved["param_groups"]}


def _moment_like(parameter: Tensor, value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    # A copy, or training would write into the mapped file's pages.
    return (_part_of(value, parameter) if isinstance(parameter, DTensor) else value).clone()


def shard_once(model: Network, mesh: DeviceMesh, micro_clips: int | None) -> None:
    """Spread the parameters of a model over processes, unless they are spread already.

    Raises:
        ValueError: there are `micro_clips`. Processes gather parameters for each part of a batch: those with fewer
            parts would keep the others waiting for ever.
    """
    if micro_clips is not None:
        raise UserError(
            f"micro_clips={micro_clips} cannot be used with the strategy fsdp2: processes may have unequal "
            "numbers of parts and would wait for each other; use accumulate_grad_batches, or the strategy ddp"
        )
    if not any(is_shard(parameter) for parameter in model.parameters()):
        shard(model, mesh)


def shard(model: Network, mesh: DeviceMesh) -> None:
    """Spread the parameters of a model over processes, in place.

    Args:
        model: a model with whole parameters, equal on all processes.
        mesh: the processes, in one dimension.
    """
    _show_tensors()
    # Every part is a root of its own, since `training_step` calls them one by one. Resharded after each forward pass:
    # the teacher's has no backward pass that would do it, and the average is over shards.
    for part in _parts(model):
        for block in _blocks(part):
            _spread(block, mesh)
        _spread(part, mesh)


def _show_tensors() -> None:
    """Let FSDP2 find the tensors in `Packed` values, or it gathers no parameters for the backward pass."""
    if Packed not in SUPPORTED_NODES:
        register_pytree_node(
            Packed,
            lambda packed: ([packed.values, packed.lengths, packed.positions], packed.layout),
            _packed,
        )


def _packed(tensors: Iterable[Any], layout: Any) -> Packed:
    values, lengths, positions = tensors
    return Packed(values, lengths, positions, layout)


def _parts(model: Network) -> Iterator[nn.Module]:
    yield from (model.audio, model.text, model.audio_pool, model.text_pool)
    for objective in model.objectives.values():
        yield from objective.children()
    if model.teacher is not None:
        for copy in model.teacher.copies:  # of an objective, the parts that the objective itself has spread
            yield from copy.children() if isinstance(copy, Objective) else [copy]


def _blocks(part: nn.Module) -> Iterator[nn.Module]:
    """Yield the elements of the outermost lists of modules: layers, of which one at a time need be whole."""
    for child in part.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)


def _spread(module: nn.Module, mesh: DeviceMesh) -> None:
    scalars = {parameter for parameter in module.parameters() if parameter.dim() == 0}
    if all(parameter in scalars for parameter in module.parameters()):
        return
    fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=scalars)
    for name in getattr(module, "entrances", ()):
        register_fsdp_forward_method(module, name)
