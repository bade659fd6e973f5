"""All that `state_dict` holds comes back under every strategy: tokenizers, classes, averages, weights.

The test starts this file as a program, once per process.
"""

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from launch import launch
from resume_recipe import write_clips
from slap import SLAP
from slap.datamodules import AudioTextData
from slap.testing.tiny import TinyAudio
from slap.training.fsdp import FSDP2, Sharded

pytestmark = pytest.mark.distributed

TEXT = {"name": "transformer", "size": "nano", "vocab_size": 300}
OBJECTIVES = {"contrastive": 1.0, "classification": {"weight": 1.0, "task": "animal"}}
WAYS = ["ddp", "fsdp2", "parts"]
"""Strategies of two processes; `parts` is FSDP2 with a checkpoint of one file per process."""


class Keep(Callback):
    """Keeps the whole state of the model and of the optimizer as it is before the first step or batch."""

    def on_train_start(self, trainer, module):
        self.state = {name: whole(value) for name, value in module.state_dict().items()}
        for optimizer in trainer.optimizers:
            self.state |= moments(optimizer.param_groups, optimizer.state)

    on_test_start = on_validation_start = on_train_start


def whole(value):
    return value.full_tensor() if hasattr(value, "full_tensor") else value.clone()


def moments(groups, state):
    """The moments of an optimizer by the place of their parameters in its groups."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return {
        f"{place} {name}": whole(value)
        for place, parameter in enumerate(parameters)
        for name, value in state.get(parameter, {}).items()
    }


def manifest(folder, name, words):
    """Labeled clips, whose captions are of other words than those of another manifest."""
    path = Path(write_clips(folder, name, 6))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for place, row in enumerate(rows):
        row |= {"caption": f"{words} number {place}", "label_animal": "cat" if place % 2 else "dog"}
    labeled = path.with_name(f"{name}.jsonl")
    labeled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return labeled


def run(step, folder, words, ckpt_path=None, steps=1, objectives=OBJECTIVES, **options):
    """Train up to a step, or evaluate; the trainer, and the state of the model before."""
    keep = Keep()
    torch.manual_seed(len(words))
    model = SLAP(TinyAudio(), TEXT, objectives, embedding_dim=16, ema=True, warmup_steps=0)
    clips = folder / f"{words.split()[0]}.jsonl"
    trainer = Trainer(
        default_root_dir=folder,
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[keep],
        **options,
    )
    data = AudioTextData(clips, test=clips, val=clips, max_duration=1.0, max_clip=0.6)
    data.restart_changed = True
    getattr(trainer, step)(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return trainer, keep.state


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of one process, its checkpoint, and what two processes loaded of that under each strategy."""
    made = tmp_path_factory.mktemp("state")
    for words in ("dogs", "violins"):
        manifest(made, words, f"{words} of some kind and")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer, _ = run("fit", made, "dogs")
        trainer.save_checkpoint(made / "one.ckpt")
        torch.save({step: run(step, made, *rest)[1] for step, rest in steps(made / "one.ckpt")}, made / "one.pt")
    launch(__file__, 2, made)
    return made


def steps(checkpoint):
    """Evaluation, and training that goes on with captions of other words."""
    return [("test", ("dogs", checkpoint)), ("validate", ("dogs", checkpoint)), ("fit", ("violins", checkpoint, 2))]


@pytest.mark.parametrize("way", WAYS)
def test_every_strategy_loads_all_of_a_checkpoint(folder, way):
    """Weights, tokenizer and classes; to go on, also moments, and none for parameters that never had a gradient."""
    content = torch.load(folder / "one.ckpt", weights_only=True)
    saved, (optimizer,) = content["state_dict"], content["optimizer_states"]
    assert 0 < len(optimizer["state"]) < sum(len(group["params"]) for group in optimizer["param_groups"])
    wanted = {"fit": saved | moments(optimizer["param_groups"], optimizer["state"])}
    assert {"text._extra_state", "objectives.classification._extra_state"} <= saved.keys()
    one = torch.load(folder / "one.pt")
    for rank in (0, 1):
        for step, found in torch.load(folder / f"{way}-{rank}.pt").items():
            for states in (one[step], found):
                expected = wanted.get(step, saved)
                torch.testing.assert_close(states, expected, rtol=0, atol=0, msg=lambda text, s=step: f"{s}: {text}")


def test_a_checkpoint_with_other_state_is_refused(folder):
    for rank in (0, 1):
        absent, shape, parts = json.loads((folder / f"{rank}.said").read_text())
        assert 'Missing key(s) in state_dict: "text._extra_state"' in absent
        assert "Unexpected key(s)" in absent
        assert "size mismatch for text." in shape
        assert "Error(s) in loading state_dict" in parts
        assert "has the extra states" in parts


def main(rank, folder):
    warnings.simplefilter("ignore")
    two, one, parts = {"devices": 2}, folder / "one.ckpt", folder / "parts.ckpt"
    trainer, _ = run("test", folder, "dogs", one, strategy=Sharded(save_distributed_checkpoint=True), **two)
    trainer.save_checkpoint(parts)
    for way, (strategy, checkpoint) in {"ddp": ("ddp", one), "fsdp2": (FSDP2, one), "parts": (FSDP2, parts)}.items():
        given = steps(checkpoint)[: 2 if way == "parts" else 3]  # an evaluation wrote the parts, without an optimizer
        found = {step: run(step, folder, *rest, strategy=strategy, **two)[1] for step, rest in given}
        torch.save(found, folder / f"{way}-{rank}.pt")
    content = torch.load(one, weights_only=True)
    said = []
    for name in ("absent", "shape"):
        state = dict(content["state_dict"])
        if name == "absent":
            state["nobody._extra_state"] = state.pop("text._extra_state")
        else:
            key = next(key for key, value in state.items() if key.startswith("text.") and value.dim() == 2)
            state[key] = state[key][1:].clone()
        path = folder / f"{name}{rank}.ckpt"
        torch.save(content | {"state_dict": state}, path)
        with pytest.raises(RuntimeError) as refused:
            run("test", folder, "dogs", path, strategy=FSDP2, **two)
        said.append(str(refused.value))
    with pytest.raises(RuntimeError) as refused:
        run("test", folder, "dogs", folder / "parts.ckpt", strategy=FSDP2, objectives={"contrastive": 1.0}, **two)
    said.append(str(refused.value))
    (folder / f"{rank}.said").write_text(json.dumps(said))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
