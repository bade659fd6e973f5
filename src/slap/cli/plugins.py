"""List the registered encoders, objectives and corpora with their arguments and defaults."""

from __future__ import annotations

import argparse
import inspect
import json
from typing import Any

from slap.cli.options import add_plugins


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_plugins(parser, before="the list is made")


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    from slap.core.registry import load_plugins

    load_plugins(arguments.plugins)
    listed = listing()
    print(json.dumps(listed, indent=2, default=repr) if arguments.json else as_text(listed))
    return 0


def listing() -> dict[str, dict[str, Any]]:
    """Return, by kind and name, the first line of each plug-in's docstring, its class and its arguments."""
    from slap.core.registry import kinds, plugins

    return {kind: {name: _describe(plugin) for name, plugin in plugins(kind).items()} for kind in kinds()}


def _describe(plugin: type) -> dict[str, Any]:
    from slap.core.registry import arguments

    described = {}
    for argument in arguments(plugin).values():
        annotation = "" if argument.annotation is argument.empty else argument.annotation
        annotation = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        described[argument.name] = {"type": annotation, "required": argument.default is argument.empty}
        if argument.default is not argument.empty:
            described[argument.name]["default"] = argument.default
    line = (plugin.__doc__ or "").strip().split("\n")[0]
    return {"about": line, "class": f"{plugin.__module__}.{plugin.__qualname__}", "arguments": described}


def as_text(listed: dict[str, dict[str, Any]]) -> str:
    """Format the list for a terminal."""
    from slap.core.registry import kinds

    lines: list[str] = []
    for kind, found in listed.items():
        lines += [kinds()[kind].plural, ""]
        for name, plugin in found.items():
            lines.append(f"  {name}: {plugin['about']}")
            for argument, about in plugin["arguments"].items():
                default = "required" if about["required"] else f"= {about['default']!r}"
                lines.append(
                    f"      {argument}: {about['type']} {default}" if about["type"] else f"      {argument} {default}"
                )
            lines.append("")
    return "\n".join(lines).rstrip()
