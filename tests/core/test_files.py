"""Files appear whole or not at all, and lines of several processes do not mix."""

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from slap.core.files import FileStamp, append_line, atomic_write, create_whole, part_of, remove_stale_parts


@pytest.mark.parametrize(("mode", "old", "new"), [("w", "old", "new: \u00e9\r\n"), ("wb", b"old", b"\0new")])
def test_a_file_keeps_its_old_content_until_the_new_one_is_complete(mode, old, new, tmp_path):
    path = tmp_path / "file"
    (path.write_text if mode == "w" else path.write_bytes)(old)
    with atomic_write(path, mode) as file:
        file.write(new)
        file.flush()
        assert path.read_bytes() == (old.encode() if mode == "w" else old)
    assert path.read_bytes() == (new.encode() if mode == "w" else new)
    assert [*tmp_path.iterdir()] == [path]


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:  # noqa: PT012
        file.write("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_the_content_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append((tmp_path / "file").exists()))
    with atomic_write(tmp_path / "file") as file:
        file.write("new")
    assert done == [False, True]
    with atomic_write(tmp_path / "file", sync=False) as file:
        file.write("newer")
    assert done == [False, True]


def test_a_library_may_write_to_the_file_by_its_name(tmp_path):
    with atomic_write(tmp_path / "file", "wb") as file, Path(file.name).open("wb") as another:
        another.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_file_has_the_permissions_that_the_user_gives_new_files(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "file"):
        pass
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_lines_of_several_processes_do_not_mix(tmp_path):
    path = tmp_path / "new" / "lines"
    with ProcessPoolExecutor(4) as pool:
        [*pool.map(append_line, [path] * 40, [str(number) * 3000 for number in range(40)])]
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(str(number) * 3000 for number in range(40))


def test_lines_go_through_no_link(tmp_path):
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "lines"
    elsewhere.write_text("mine\n")
    link.symlink_to(elsewhere)
    with pytest.raises(ValueError, match=r"lines is a link, to .*elsewhere, and nothing is written through links"):
        append_line(link, "more")
    assert elsewhere.read_text() == "mine\n"


def no_links(*_):
    raise PermissionError("this file system knows no hard links")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_created_whole_and_once(links, tmp_path, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    create_whole(tmp_path / "file", "first")
    with pytest.raises(FileExistsError):
        create_whole(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first"
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_a_stamp_changes_with_size_and_time_and_is_a_list_in_json(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    os.utime(path, ns=(0, 5))
    stamp = FileStamp.of(path)
    assert json.loads(json.dumps(stamp)) == [3, 5]
    os.utime(path, ns=(0, 6))
    assert FileStamp.of(path) != stamp


def test_parts_of_killed_processes_are_removed_and_no_others(tmp_path):
    path, mine = tmp_path / "file", part_of(tmp_path / "file").name
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    stale = mine.replace(f".{os.getpid()}.", f".{int(ended.stdout)}.")
    others = ["file.elsewhere.77.part", "file.77.part", "file.part"]
    others.append(mine.replace(f".{os.getpid()}.", f".{os.getppid()}."))
    for name in (stale, *others):
        (tmp_path / name).write_text("half")
    with atomic_write(path) as file:
        file.write("whole")
    assert {found.name for found in tmp_path.iterdir()} == {"file", *others}
    remove_stale_parts(path, everywhere=True)
    assert {found.name for found in tmp_path.iterdir()} == {"file", *others[1:]}
