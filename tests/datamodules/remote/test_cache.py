"""The cache: whole copies alone, continued and not begun again, one download for all processes, a limit that holds."""

import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slap.datamodules import ManifestError
from slap.datamodules.remote import cache, download, settings
from slap.datamodules.remote.cache import copy_of, found, local_copies, local_copy
from slap.datamodules.remote.errors import RemoteChangedError, RemoteError, RemoteMissingError
from slap.datamodules.remote.uses import uses

MB = 1 << 20


def write(web, name, size, seed=0):
    content = bytes([seed]) + os.urandom(size - 1)
    (web.folder / name).write_bytes(content)
    return content


def kept():
    return sorted(path.name.split("-", 2)[2] for path in settings.cache_folder().iterdir() if "-" in path.name)


def test_a_copy_is_fetched_once_and_kept(web):
    content = write(web, "a.tar", 3 * MB)
    path = local_copy(f"{web.url}/a.tar", web.url)
    assert path.read_bytes() == content
    assert local_copy(Path(f"{web.url}/a.tar"), web.url) == path
    assert len(web.asked("GET")) == 1
    assert kept() == ["a.tar"]


def test_nothing_is_fetched_unless_it_is_asked_for(web):
    write(web, "a.tar", 10)
    with pytest.raises(ManifestError, match=r"a\.tar is refused: nothing is read from other machines.*remote_roots"):
        local_copy(f"{web.url}/a.tar")
    with pytest.raises(ManifestError, match="is refused"):
        local_copy(f"{web.url}/a.tar", f"{web.url}/data")
    assert not web.log


def test_a_broken_connection_is_continued_where_it_was(web, caplog):
    caplog.set_level(logging.INFO, "slap")
    content = write(web, "a.tar", 5 * MB)
    web.breaks["/a.tar"] = [2 * MB, 1 * MB]
    assert local_copy(f"{web.url}/a.tar", web.url).read_bytes() == content
    starts = [start for _, start in web.asked("GET")]
    assert starts[0] == 0
    assert 0 < starts[1] <= 2 * MB < starts[2] <= 3 * MB
    assert "attempt 1 of 3 failed and is repeated: the connection broke" in caplog.text


def test_attempts_that_come_further_do_not_count(web):
    content = write(web, "a.tar", 8 * MB)
    web.breaks["/a.tar"] = [MB] * 6  # SLAP_REMOTE_TRIES is 3
    assert local_copy(f"{web.url}/a.tar", web.url).read_bytes() == content


def test_a_server_without_ranges_begins_again(web):
    content = write(web, "a.tar", 3 * MB)
    web.ranges = False
    web.breaks["/a.tar"] = [2 * MB]
    assert local_copy(f"{web.url}/a.tar", web.url).read_bytes() == content


def test_a_connection_that_always_breaks_is_an_error_that_says_how_often(web):
    write(web, "a.tar", 3 * MB)
    web.breaks["/a.tar"] = [0] * 99
    with pytest.raises(RemoteError, match=r"/a\.tar cannot be read: .*\(attempts: 3\).*SLAP_REMOTE_TRIES"):
        local_copy(f"{web.url}/a.tar", web.url)
    assert len(web.asked("GET")) == 3
    with pytest.raises(RemoteError, match="attempts: 3"):  # each clip of the shard asks for it
        local_copy(f"{web.url}/a.tar", web.url)
    assert len(web.asked("GET")) == 3


def test_another_process_goes_on_where_a_killed_one_was(web):
    content = write(web, "a.tar", 6 * MB)
    web.slow = 0.05
    code = f"from slap.datamodules.remote.cache import local_copy; local_copy('{web.url}/a.tar', '{web.url}')"
    process = subprocess.Popen([sys.executable, "-c", code])
    part = None
    while part is None or part.stat().st_size < 2 * MB:
        time.sleep(0.01)
        part = next(settings.cache_folder().glob("*.part"), None) if settings.cache_folder().exists() else None
    process.kill()
    process.wait()
    web.slow = 0.0
    assert local_copy(f"{web.url}/a.tar", web.url).read_bytes() == content
    assert web.asked("GET")[1][1] >= 2 * MB
    assert kept() == ["a.tar"]


def test_processes_fetch_a_file_once(web):
    content = write(web, "a.tar", 4 * MB)
    web.slow = 0.005
    with multiprocessing.get_context("fork").Pool(4) as pool:
        paths = pool.starmap(local_copy, [(f"{web.url}/a.tar", web.url)] * 4)
    assert len({*paths}) == 1
    assert paths[0].read_bytes() == content
    assert len(web.asked("GET")) == 1


def test_a_file_that_has_changed_is_fetched_again(web):
    write(web, "a.tar", 1000)
    first = local_copy(f"{web.url}/a.tar", web.url)
    changed = write(web, "a.tar", 1000, seed=1)
    second = local_copy(f"{web.url}/a.tar", web.url)
    assert (second != first, second.read_bytes()) == (True, changed)


@pytest.mark.parametrize("size", [3 * MB, 4 * MB])
def test_a_file_that_changes_while_it_is_fetched_is_no_mixture(web, size):
    write(web, "a.tar", 3 * MB)
    file = found(f"{web.url}/a.tar", (web.url,))
    web.breaks["/a.tar"] = [MB]
    web.before_body = lambda _: write(web, "a.tar", size, seed=1)
    with pytest.raises(RemoteChangedError, match=r"/a\.tar is not what the server said before: 3145728 bytes"):
        copy_of(file)
    assert not [path for path in settings.cache_folder().glob("*-*") if path.stat().st_size]


@pytest.mark.parametrize("said", [-500, 500])
def test_a_wrong_size_is_refused(web, said):
    write(web, "a.tar", MB)
    web.says["/a.tar"] = MB + said
    file = found(f"{web.url}/a.tar", (web.url,))
    assert file.size == MB + said
    if said < 0:
        del web.says["/a.tar"]  # the content is longer than was said
    with pytest.raises(RemoteError, match=r"/a\.tar"):
        copy_of(file)
    assert "a.tar" not in kept()


def test_a_missing_file_is_no_reason_to_wait(web):
    with pytest.raises(RemoteMissingError, match=r"/a\.tar: there is no such file on the server \(HTTP status 404"):
        local_copy(f"{web.url}/a.tar", web.url)
    assert len(web.log) == 1


def test_the_cache_keeps_its_limit_and_what_was_read_last(web, monkeypatch):
    monkeypatch.setenv("SLAP_REMOTE_CACHE_GB", "0.003")  # three files
    for name in "abcd":
        write(web, f"{name}.tar", 900_000)
    for name in "abc":
        path = local_copy(f"{web.url}/{name}.tar", web.url)
        os.utime(path, ns=(0, ord(name)))
    uses.forget()
    local_copy(f"{web.url}/a.tar", web.url)  # its turn is last now
    uses.forget()
    local_copy(f"{web.url}/d.tar", web.url)
    assert kept() == ["a.tar", "c.tar", "d.tar"]


def test_a_copy_in_use_is_not_removed(web, monkeypatch, caplog):
    monkeypatch.setenv("SLAP_REMOTE_CACHE_GB", "0.002")
    for name in "abc":
        write(web, f"{name}.tar", 900_000)
    code = f"""
import time
from slap.datamodules.remote.cache import local_copy
print(local_copy("{web.url}/a.tar", "{web.url}"), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        path = Path(other.stdout.readline().strip())
        os.utime(path, ns=(0, 0))
        local_copy(f"{web.url}/b.tar", web.url)
        local_copy(f"{web.url}/c.tar", web.url)
        assert path.exists()
        assert kept() == ["a.tar", "b.tar", "c.tar"]  # b too: this process has it
        assert "since all files in it are in use; raise SLAP_REMOTE_CACHE_GB" in caplog.text
        other.kill()
    uses.forget()
    write(web, "d.tar", 900_000)
    local_copy(f"{web.url}/d.tar", web.url)
    assert "a.tar" not in kept()


def test_a_file_that_the_cache_cannot_hold(web, monkeypatch):
    monkeypatch.setenv("SLAP_REMOTE_CACHE_GB", "0.001")
    write(web, "a.tar", 2 * MB)
    with pytest.raises(
        RemoteError, match=r"/a\.tar has 0\.0021 GB, more than the 0\.001 GB that the cache .*SLAP_REMOTE"
    ):
        local_copy(f"{web.url}/a.tar", web.url)
    monkeypatch.setenv("SLAP_REMOTE_CACHE_GB", "many")
    write(web, "b.tar", 10)
    with pytest.raises(ValueError, match="SLAP_REMOTE_CACHE_GB must be a number above 0, got 'many'"):
        local_copy(f"{web.url}/b.tar", web.url)


def test_a_full_disk_is_told(web, monkeypatch):
    write(web, "a.tar", 1000)
    monkeypatch.setattr(cache, "download", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(
        RemoteError, match=r"cannot be kept in the cache .*No space left.*SLAP_REMOTE_CACHE names another"
    ):
        local_copy(f"{web.url}/a.tar", web.url)


def test_the_next_files_are_fetched_while_one_is_read(web):
    contents = [write(web, f"{number}.tar", 200_000) for number in range(5)]
    urls = [f"{web.url}/{number}.tar" for number in range(5)]
    copies = local_copies(urls, web.url, ahead=2)
    assert next(copies).read_bytes() == contents[0]
    deadline = time.monotonic() + 5
    while len(web.asked("GET")) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(web.asked("GET")) == 3  # this one and two more
    assert [path.read_bytes() for path in copies] == contents[1:]


def test_errors_of_a_later_file_come_when_its_turn_does(web):
    write(web, "0.tar", 10)
    copies = local_copies([f"{web.url}/0.tar", f"{web.url}/1.tar"], web.url)
    next(copies)
    with pytest.raises(RemoteMissingError, match=r"1\.tar"):
        next(copies)


def test_waits_grow_and_leave_pythons_random_numbers_alone(monkeypatch):
    import random

    monkeypatch.undo()
    state = random.getstate()
    waits = [download.wait(failed) for failed in (1, 2, 3, 10)]
    assert all(0.5 * most <= seconds <= most for seconds, most in zip(waits, (1, 2, 4, 30), strict=True))
    assert random.getstate() == state


def test_threads_of_a_process_fetch_a_file_once(web):
    write(web, "a.tar", MB)
    web.slow = 0.005
    threads = [threading.Thread(target=local_copy, args=(f"{web.url}/a.tar", web.url)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(web.asked("GET")) == 1
