"""What the README says about searching works."""

import re
import shlex
from pathlib import Path

import numpy as np
import soundfile

from slap.cli.main import main
from slap.testing.tiny import tiny_checkpoint

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.split("## Search your sounds")[1].split("\n## ")[0]


def test_the_commands_of_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("sounds/a.wav", "sounds/b.wav", "query.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        soundfile.write(name, rng.uniform(-0.5, 0.5, 8000), 16_000)
    Path("runs/mine").mkdir(parents=True)
    tiny_checkpoint("runs/mine/best.ckpt")
    (block,) = re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL)
    commands = [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("slap ")]
    for command in commands:
        if command[1] != "serve":
            assert main(command[1:]) == 0
    printed = capsys.readouterr().out
    assert printed.count("sounds/") == 0
    assert printed.count("a.wav") == 2
    assert {command[1] for command in commands} >= {"index", "search"}
