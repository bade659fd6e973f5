"""Serve a web page on this machine to search an index: type a query, listen, see where in a sound it matches.

    slap serve sounds.index
    slap serve sounds.index --port 8500 --open

The page can be reached from this machine only, loads nothing from the internet, and serves only files of the index.
There is no password: other users of this machine can open it too.

Exit status: 0 after Ctrl-C; 2 the index, its model or the address cannot be used.
"""

from __future__ import annotations

import argparse
import json
import webbrowser
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from slap.cli.options import calibrated
from slap.core.errors import MissingDependencyError, UserError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("index", metavar="INDEX", type=Path, help="an index that `slap index` made")
    parser.add_argument(
        "--port", type=int, default=8420, help="port to serve on; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve on, a loopback one (default: %(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the default browser")
    parser.add_argument("--model", help="path of the model, if it was moved since the index was made")
    parser.add_argument(
        "--device", help="device that the model computes on, e.g. cpu or cuda (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="the calibration that `slap calibrate` wrote (default: the one beside the model, if there is one)",
    )
    parser.add_argument("--json", action="store_true", help="print the address of the page as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from slap.search.query import Index

    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port must be from 0 to 65535, got {arguments.port}")
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise MissingDependencyError("the search page needs Starlette and uvicorn: pip install 'slap-audio[search]'")
    from slap.search.web.app import search_app
    from slap.search.web.server import Server

    index = Index.open(arguments.index, arguments.model, arguments.device)
    calibrated(index.model, arguments)
    with Server(search_app(index), arguments.host, arguments.port) as server:
        index.model.embed_text(["a sound"])  # the first query shall be as fast as the others
        print(json.dumps({"url": server.url}) if arguments.json else f"{server.url}  (Ctrl-C stops)", flush=True)
        if arguments.open:
            webbrowser.open(server.url)
        with suppress(KeyboardInterrupt):
            server.run()
    return 0
