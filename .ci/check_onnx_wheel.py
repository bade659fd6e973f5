"""Import every module of the wheel of slap-onnx in a process that can import nothing else of slap-audio's dependencies.

Usage: python .ci/check_onnx_wheel.py FOLDER, where the wheel was installed with `pip install --target FOLDER`.
"""

import importlib
import sys
from pathlib import Path

ABSENT = (
    "einops", "jsonargparse", "lhotse", "lightning", "matplotlib", "pytorch_lightning", "safetensors", "scipy",
    "tensorboard", "torch", "torchaudio", "torchmetrics", "tqdm", "transformers", "yaml",
)  # fmt: skip

if __name__ == "__main__":
    wheel = Path(sys.argv[1]).resolve()
    # An editable install of slap-audio has a finder of its own, which would find what the wheel lacks.
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
    sys.path.insert(0, str(wheel))
    sys.modules.update(dict.fromkeys(ABSENT))  # importing one raises ModuleNotFoundError
    paths = [path for path in sorted(wheel.glob("slap/**/*.py")) if path.stem != "__main__"]
    names = [".".join(path.relative_to(wheel).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    for name in ["slap.onnx", *names]:
        file = importlib.import_module(name).__file__
        if not str(file).startswith(str(wheel)):
            sys.exit(f"{name} is not in the wheel but was found at {file}: see packages/slap-onnx/pyproject.toml")
    print(f"the wheel of slap-onnx holds {len(names)} modules, none of which needs torch")
