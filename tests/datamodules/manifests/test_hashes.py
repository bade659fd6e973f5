"""Hashes of manifests: another content is another hash, whatever the kind of the manifest."""

import hashlib

import pytest

from slap.datamodules.manifests.hashes import hashed


def hash_of(path):
    return hashed([path])[0]["sha256"]


@pytest.fixture
def folder(tmp_path):
    """A folder with two files that are called tar files."""
    (tmp_path / "train").mkdir()
    for number in range(2):
        (tmp_path / "train" / f"{number}.tar").write_bytes(b"x" * (number + 1))
    return tmp_path / "train"


def test_a_folder_is_hashed_by_names_and_sizes(folder):
    assert hash_of(folder) == hashlib.sha256(b"0.tar 1\n1.tar 2\n").hexdigest()
    assert hashed([f"{folder}#heldout=0.1"]) == [{"path": f"{folder}#heldout=0.1", "sha256": hash_of(folder)}]


@pytest.mark.parametrize("pattern", ["{0..1}.tar", "*.tar"])
def test_several_tar_files_are_hashed_as_their_folder_is(folder, pattern):
    """A pattern had the hash of nothing, so all had the same."""
    assert hash_of(folder / pattern) == hash_of(folder)
    assert hash_of(folder / "0.ta*") != hash_of(folder / "1.ta*") != hash_of(folder)


def test_what_reading_writes_beside_tar_files_is_not_hashed(folder):
    before = hash_of(folder)
    (folder / "0.tar.index").write_bytes(b"x")
    (folder / "0.tar.blocks").write_bytes(b"x")
    assert hash_of(folder) == before


def test_data_sets_of_hugging_face(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.parquet").write_bytes(b"1")
    names = [
        f"hf:{tmp_path}/data",
        f"hf:{tmp_path}/data?split=test",
        f"hf:{tmp_path}/data/*.parquet",
        "hf:a/b?hub=true",
    ]
    before = [hash_of(name) for name in names]
    assert len(set(before)) == len(names)
    (tmp_path / "data" / "a.parquet").write_bytes(b"12")
    assert [one == other for one, other in zip(before, map(hash_of, names), strict=True)] == [False, False, False, True]
