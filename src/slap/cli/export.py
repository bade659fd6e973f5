"""Export a trained model: a folder of safetensors, JSON, the tokenizer and a model card.

    slap export runs/demo/best.ckpt exported --licence apache-2.0
    slap export runs/demo/best.ckpt exported --onnx --overwrite

--format transformers writes a folder that `ClapModel` and `ClapProcessor` of transformers load instead, for models that
began from a CLAP model: the weights, the feature extractor and the tokenizer.

The folder loads with `slap.load`, and wherever a command takes MODEL, without running code that it brings; its
checksum is verified. The EMA teacher and objectives that only training needs are left out. The model card takes
training data and metrics from the run's folder, where the checkpoint is in one, and those of a folder that is exported
again from its own card. A collapsed model, to which all inputs are nearly the same, is refused.

--precision float16 stores the weights in half the bytes; the model is loaded in float32 all the same, and embeddings
differ in about the third digit. --without captioning leaves the decoder out.

--onnx adds audio.onnx (one waveform of any length at the model's rate to its embedding, the log-mel spectrogram inside)
and text.onnx (the token ids of one text to its embedding), which slap.onnx.load runs without torch; --torch adds the
same as audio.pt2 and text.pt2, for torch.export.load. graphs.json has their inputs, limits and checksums. Graphs of a
model that --overwrite replaces are removed.

Exit status: 0 done; 2 nothing was saved.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from slap.cli.options import MODEL, add_allow_collapsed, add_common, add_weights, load
from slap.core.errors import UserError

if TYPE_CHECKING:
    from slap.inference.model import Model
    from slap.inference.model_card import Card


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="CKPT", help=MODEL)
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write")
    parser.add_argument(
        "--licence",
        metavar="ID",
        help="license of the weights for the model card, e.g. apache-2.0 (default: that of CKPT's own card if it is a "
        "folder with one, else not stated)",
    )
    parser.add_argument(
        "--name",
        metavar="TEXT",
        help="name of the model for the model card (default: that of CKPT's own card, else its folder)",
    )
    parser.add_argument(
        "--format",
        choices=("slap", "transformers"),
        default="slap",
        help="format of the folder: slap for slap.load, or transformers for ClapModel.from_pretrained, for models that "
        "began from a CLAP model (default: slap)",
    )
    parser.add_argument("--onnx", action="store_true", help="also write audio.onnx and text.onnx")
    parser.add_argument("--torch", action="store_true", help="also write audio.pt2 and text.pt2, for torch.export.load")
    parser.add_argument(
        "--precision",
        choices=("bfloat16", "float16"),
        help="half precision to store the weights in (default: as they were trained)",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="NAME",
        help="objectives to leave out; without captioning, the model writes no captions",
    )
    add_allow_collapsed(parser, "save")
    parser.add_argument("--overwrite", action="store_true", help="replace the model in the folder OUT")
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Load, check, save."""
    import slap

    out: Path = arguments.out
    _check(arguments)
    arguments.device = arguments.device or "cpu"
    model = load(arguments)
    changed = arguments.precision, arguments.without
    if arguments.format == "transformers":
        _save_for_transformers(model, arguments)
    else:
        model.save_pretrained(out, _card(arguments), arguments.allow_collapsed, *changed)
        if any(changed):
            model = slap.load(out, "cpu", arguments.trust)
    if arguments.onnx or arguments.torch:
        _write_graphs(model, arguments)
    files = sorted(path.name for path in out.iterdir())
    if arguments.json:
        print(json.dumps({"out": str(out), "name": model.name, "files": files}, indent=2))
    else:
        print(f"{out}: {', '.join(files)}; the model is {model.name}")
    return 0


def _write_graphs(model: Model, arguments: argparse.Namespace) -> None:
    from slap.inference.export import graphs, write_onnx, write_programs, write_record

    programs = graphs(model)
    if arguments.torch:
        write_programs(programs, arguments.out)
    if arguments.onnx:
        write_onnx(programs, arguments.out)
    write_record(model, arguments.out)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse a folder that holds other things than a model of the same format, or one that is not to be replaced."""
    from slap.encoders.hf import clap_folder
    from slap.inference import saved_model

    out: Path = arguments.out
    if arguments.format == "transformers" and (arguments.precision or arguments.without):
        raise UserError("--precision and --without are of the format slap; leave them out beside --format transformers")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; OUT is the folder to write")
    if out.is_dir() and any(out.iterdir()):
        kind = clap_folder if arguments.format == "transformers" else saved_model
        if not kind.recognizes(out):
            raise UserError(f"{out} holds other things than a saved model; name a new folder")
        if not arguments.overwrite:
            raise UserError(f"{out} holds a model already; --overwrite replaces it")
        if kind is clap_folder and Path(arguments.model).resolve() == out.resolve():
            raise UserError(f"{out} is the model itself, whose files would change while they are read; name another")


def _save_for_transformers(model: Model, arguments: argparse.Namespace) -> None:
    from slap.encoders.hf import clap_folder
    from slap.inference.collapse import refuse_collapsed
    from slap.inference.network_backend import NetworkBackend

    if not isinstance(model.backend, NetworkBackend):
        raise UserError(f"only SLAP's own models are exported, not a {type(model.backend).__name__}")
    refuse_collapsed(model, "exported", arguments.allow_collapsed)
    clap_folder.write(model.backend, arguments.out, _card(arguments))


def _card(arguments: argparse.Namespace) -> Card:
    from dataclasses import replace

    from slap.inference.kept_card import card_of_folder
    from slap.inference.load import read_checkpoint
    from slap.inference.model_card import Card
    from slap.inference.shipped import located

    path = located(arguments.model)
    card = card_of_folder(path) if path.is_dir() else Card.of_run(path, read_checkpoint(path).get("global_step"))
    given = {"name": arguments.name, "licence": arguments.licence}
    return replace(card, **{name: value for name, value in given.items() if value})
