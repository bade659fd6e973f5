"""A corpus from outside the package: `list.txt` names a file a line, in order, with seconds where a clip begins."""

from pathlib import Path

from slap import register
from slap.datamodules import Clip, Corpus


@register("toy_list")
class ToyList(Corpus):
    """The files that list.txt names; `test` is every one whose name begins with t.

    Args:
        root: the folder with list.txt.
        loud: captions in capitals.
        interrupt: after how many clips to behave as if Ctrl-C was pressed.
    """

    SPLITS = ("train", "test")

    def __init__(self, root: Path, loud: bool = False, interrupt: int | None = None):
        super().__init__(root)
        self.loud, self.interrupt = loud, interrupt

    def clips(self, split):
        for number, line in enumerate((self.root / "list.txt").read_text().splitlines()):
            if number == self.interrupt:
                raise KeyboardInterrupt
            name, start, *rest = line.split()
            if name.startswith("t") != (split == "test"):
                continue
            if name.startswith("skip"):
                self.leave_out("not wanted", name)
                continue
            caption = f"the sound of {name}"
            yield Clip(
                rest[0] if rest else f"toy/{name}",
                self.root / name,
                [caption.upper() if self.loud else caption, "a sound"],
                {"name": name},
                float(start),
                fields=["template", "caption"],
                corpus="toy_list",
                split=split,
                fold=0,
                origin={"freesound": "1"},
                tags={"kinds": ["a", "b"]},
            )

    def official(self, split):
        return 12 if split == "train" else None
