"""A folder with the CSV of the README and audio for it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slap.core.registry import load_module

pages = load_module(str(Path(__file__).parents[1] / "support" / "pages.py"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The README's CSV, with audio for it, three times over; the working directory."""
    (table,) = pages.Page("README.md").blocks("csv")
    rng = np.random.default_rng(0)
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text(table)
    for row in csv.DictReader(table.splitlines()):
        (tmp_path / row["audio"]).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / row["audio"], rng.uniform(-0.5, 0.5, 8000), 16_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path
