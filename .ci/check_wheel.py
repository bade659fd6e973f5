"""Import every module of the checkout from an installed wheel, so that no package is missing in setup.cfg.

Usage: python .ci/check_wheel.py FOLDER, where the wheel was installed with `pip install --target FOLDER`.
"""

import importlib
import sys
from pathlib import Path

ROOTS = {
    "src/slap": "slap",
    "encoders": "slap.encoders",
    "objectives": "slap.objectives",
    "datamodules": "slap.datamodules",
    "recipes": "slap.recipes",
}


def modules(checkout: Path) -> list[str]:
    """List the dotted names of all modules below the five folders."""
    found = []
    for root, package in ROOTS.items():
        for path in sorted((checkout / root).rglob("*.py")):
            parts = path.relative_to(checkout / root).with_suffix("").parts
            found.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return [name for name in found if not name.endswith("__main__")]


if __name__ == "__main__":
    wheel = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(wheel))
    names = modules(Path(__file__).parent.parent)
    for name in names:
        file = importlib.import_module(name).__file__
        if not str(file).startswith(str(wheel)):
            sys.exit(f"{name} is not in the wheel but was found at {file}: is its package listed in setup.cfg?")
    # After the modules, which are found in the wheel from now on.
    shipped = importlib.import_module("slap.inference.shipped")
    size = sum(path.stat().st_size for path in shipped.FOLDER.glob("*"))
    if size > shipped.LARGEST:
        sys.exit(f"{shipped.FOLDER} has {size} bytes; at most {shipped.LARGEST} are downloaded by everyone")
    checkout = Path(__file__).parent.parent / "src/slap/inference" / shipped.STARTER
    missing = {path.name for path in checkout.glob("*")} - {path.name for path in shipped.FOLDER.glob("*")}
    if missing:
        sys.exit(f"{', '.join(sorted(missing))} of {checkout} are not in the wheel: see package_data in setup.cfg")
    print(f"the wheel holds all {len(names)} modules, and the model {shipped.STARTER} in {size} bytes")
