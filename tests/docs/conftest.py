"""A folder with the CSV of the README and audio for it."""

import csv

import pytest

import pages


@pytest.fixture
def folder(wav, tmp_path, monkeypatch):
    """The README's CSV, with audio for it, three times over; the working directory."""
    (table,) = pages.Page("README.md").blocks("csv")
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text(table)
    for row in csv.DictReader(table.splitlines()):
        wav(row["audio"])
    monkeypatch.chdir(tmp_path)
    return tmp_path
