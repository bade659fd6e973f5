"""Blocks of code and commands of a page in Markdown, for the tests that run them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]

SMALL = ["--data.num_workers=0", "--data.max_duration=8", "--data.max_clip=8", "--trainer.accelerator=cpu"]
"""Appended to commands of a page, so that they run in seconds; later options win."""

TINY = ["--model.audio={name: transformer, size: nano}", "--model.text={name: transformer, size: nano}"]

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Page:
    """A page: its text, and what stands in its blocks."""

    def __init__(self, path, section=None):
        self.path = path
        text = (ROOT / path).read_text(encoding="utf-8")
        self.text = text if section is None else text.split(f"## {section}\n")[1].split("\n## ")[0]

    def all_blocks(self):
        """Language and content of all blocks, in order."""
        return FENCE.findall(self.text)

    def blocks(self, language):
        return [content for found, content in self.all_blocks() if found == language]

    def commands(self, start="slap "):
        """The words of the commands in `bash` blocks that start so."""
        found = [words for block in self.blocks("bash") for words in commands_of(block, start)]
        assert found, f"{self.path} has no command that starts with {start!r}"
        return found


def commands_of(block, start="slap "):
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]
