"""Checkpoints on the disk are complete and unchanged, or they are not taken for checkpoints."""

import os
import random
import resource
import signal
import struct
import time
import zipfile

import pytest
import torch

from slap.core.checkpoint_file import DamagedCheckpointError, is_good, newest_good, read, verify, write
from slap.core.files import part_of
from slap.inference.load import load, read_checkpoint
from slap.testing.tiny import tiny_checkpoint
from slap.training.checkpoint.io import AsyncCheckpointFiles, CheckpointFiles
from slap.training.checkpoint.last import find_last
from slap.training.warm_start import WarmStart


def content(step, size=2_000):
    return {"global_step": step, "state_dict": {"w": torch.full((size,), float(step))}, "hyper_parameters": {}}


@pytest.fixture
def small_files():
    """Limit the size of files, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_written_is_read_by_torch_and_by_any_reader_of_zip_archives(tmp_path):
    path = tmp_path / "new" / "last.ckpt"
    write(content(3), path)
    verify(path)
    for mmap in (False, True):
        found = torch.load(path, weights_only=True, mmap=mmap)
        assert found["global_step"] == 3
        assert torch.equal(found["state_dict"]["w"], torch.full((2_000,), 3.0))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    assert [*path.parent.iterdir()] == [path]


def test_one_that_is_cut_off_is_damaged_wherever_it_is_cut(tmp_path):
    path = tmp_path / "last.ckpt"
    write(content(3), path)
    whole = path.read_bytes()
    for size in [0, 1, 100, len(whole) // 2, *range(len(whole) - 200, len(whole))]:
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedCheckpointError, match=r"last\.ckpt is"):
            verify(path)


def outcome(path):
    try:
        found = read(path)
    except DamagedCheckpointError:
        return "refused"
    same = torch.equal(found["state_dict"]["w"], content(3)["state_dict"]["w"])
    return "same" if same and {**found, "state_dict": 0} == {**content(3), "state_dict": 0} else "other"


def test_a_flipped_bit_is_found_wherever_it_is_or_changes_nothing(tmp_path):
    """The archive's own records hold much that nobody reads, e.g. the time of a member; the tensors' bytes do not."""
    path = tmp_path / "last.ckpt"
    write(content(3), path)
    whole = bytearray(path.read_bytes())
    start = whole.index(torch.full((2_000,), 3.0).numpy().tobytes())
    values = range(start, start + 8_000)
    with zipfile.ZipFile(path) as archive:
        records = range(archive.start_dir, len(whole))
    rng = random.Random(0)
    places = [*rng.sample(values, 50), *rng.sample(range(start), 100), *records]
    found = []
    for place, bit in [(place, 1 << rng.randrange(8)) for place in places] + [(place, 0x10) for place in records]:
        whole[place] ^= bit
        path.write_bytes(whole)
        found.append(outcome(path))
        assert is_good(path) == (found[-1] == "same")
        assert found[-1] in (["refused"] if place in values else ["refused", "same"]), place
        whole[place] ^= bit
    assert found.count("refused") > 300


def test_a_page_of_zeros_is_found(tmp_path):
    """Some file systems leave one after a loss of power."""
    path = tmp_path / "last.ckpt"
    write(content(3, size=20_000), path)
    whole = path.read_bytes()
    for start in range(0, len(whole) // 4096 * 4096, 4096):
        path.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        with pytest.raises(DamagedCheckpointError):
            read(path)


def test_one_with_a_checksum_in_its_comment_is_read_as_ever(tmp_path):
    """Checkpoints used to hold a SHA-256 as the comment of the archive."""
    path = tmp_path / "last.ckpt"
    write(content(3), path)
    whole = path.read_bytes()
    comment = b"slap sha256 " + b"0" * 64
    path.write_bytes(whole[:-2] + struct.pack("<H", len(comment)) + comment)
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == comment
    assert outcome(path) == "same"
    assert is_good(path)


def test_checkpoints_of_others_are_checked_by_the_sums_that_they_have(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save(content(3), path)
    verify(path)
    whole = bytearray(path.read_bytes())
    place = whole.index(torch.full((4,), 3.0).numpy().tobytes())
    whole[place + 1000] ^= 1
    path.write_bytes(whole)
    assert torch.load(path, weights_only=True)["global_step"] == 3  # torch does not look
    with pytest.raises(DamagedCheckpointError, match=r"checksum of its part .*/data/0 is wrong"):
        verify(path)


def test_every_reader_verifies(tmp_path):
    path = tmp_path / "model.ckpt"
    tiny_checkpoint(path)
    write(torch.load(path, weights_only=True), path)
    load(path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    for reader in (load, WarmStart.read, read_checkpoint, CheckpointFiles().load_checkpoint):
        with pytest.raises(DamagedCheckpointError, match=r"the checksum of its part .* is wrong"):
            reader(path)


def test_the_newest_good_one_is_neither_partial_nor_flipped(tmp_path, caplog):
    assert newest_good(tmp_path) is None
    assert find_last(tmp_path) is None
    for name, step in (("best", 2), ("previous", 5), ("last", 7)):
        write(content(step), tmp_path / f"{name}.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    part_of(tmp_path / "last.ckpt").write_bytes(whole)  # of a process that was killed while it wrote
    assert find_last(tmp_path) == newest_good(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert find_last(tmp_path) == tmp_path / "previous.ckpt"
    assert "last.ckpt is cut off or damaged; taken instead is" in caplog.text
    (tmp_path / "previous.ckpt").write_bytes(whole.replace(struct.pack("<f", 7.0), struct.pack("<f", 7.5), 1))
    assert find_last(tmp_path) == tmp_path / "best.ckpt"
    (tmp_path / "best.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"all checkpoints in .* are damaged: best.ckpt, last.ckpt, previous.ckpt"):
        find_last(tmp_path)


def test_the_one_before_is_kept(tmp_path):
    files = CheckpointFiles()
    for step in (1, 2, 3):
        for name in ("last.ckpt", "best.ckpt"):
            files.save_checkpoint(content(step), tmp_path / name)
    steps = {path.name: torch.load(path, weights_only=True)["global_step"] for path in tmp_path.iterdir()}
    assert steps == {"last.ckpt": 3, "previous.ckpt": 2, "best.ckpt": 3}


@pytest.mark.parametrize("files", [CheckpointFiles(), AsyncCheckpointFiles()], ids=["at once", "beside"])
def test_a_full_disk_is_a_clear_error_and_costs_nothing(files, tmp_path, small_files):
    path = tmp_path / "last.ckpt"
    files.save_checkpoint(content(1), path)
    files.wait()
    small_files(20_000)
    with pytest.raises(OSError, match=r"the checkpoint was not saved: File too large; .* still holds last\.ckpt"):
        files.save_checkpoint(content(2, size=100_000), path) or files.wait()
    assert read_checkpoint(path)["global_step"] == 1
    assert [*tmp_path.iterdir()] == [path]
    files.save_checkpoint(content(3), path)  # there is room again
    files.wait()
    assert read_checkpoint(path)["global_step"] == 3


def test_what_is_saved_beside_training_is_what_it_was_when_saving_began(tmp_path, monkeypatch):
    files = AsyncCheckpointFiles()
    monkeypatch.setattr("slap.training.checkpoint.io.write", lambda *a: time.sleep(0.2) or write(*a))
    state = content(4)
    before = time.perf_counter()
    files.save_checkpoint(state, tmp_path / "last.ckpt")
    assert time.perf_counter() - before < 0.2
    state["state_dict"]["w"].zero_()  # as the next step would
    assert files.load_checkpoint(tmp_path / "last.ckpt")["state_dict"]["w"][0] == 4
    files.teardown()


def test_an_address_is_refused(tmp_path):
    for use in (CheckpointFiles().load_checkpoint, lambda path: CheckpointFiles().save_checkpoint({}, path)):
        with pytest.raises(ValueError, match="is an address; checkpoints are read from and written to files"):
            use("https://example.org/last.ckpt")


def test_what_killed_processes_left_is_removed(tmp_path):
    for name in ("last.ckpt", "previous.ckpt"):
        mine = part_of(tmp_path / name)
        mine.with_name(mine.name.replace(f".{os.getpid()}.", ".99999999.")).write_bytes(b"half")
    write(content(1), tmp_path / "last.ckpt", tmp_path / "previous.ckpt")
    assert [*tmp_path.iterdir()] == [tmp_path / "last.ckpt"]


def test_killed_while_it_writes_the_name_stands_for_something_whole(tmp_path):
    path, rng = tmp_path / "last.ckpt", random.Random(0)
    write(content(0, size=300_000), path, tmp_path / "previous.ckpt")
    for start in range(1, 60_001, 10_000):
        child = os.fork()
        if not child:
            try:
                for step in range(start, start + 10_000):
                    write(content(step, size=300_000), path, tmp_path / "previous.ckpt")
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.03, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        verify(path)
        if (tmp_path / "previous.ckpt").exists():
            verify(tmp_path / "previous.ckpt")
        # Killed between its two names, one file has both.
        assert newest_good(tmp_path).read_bytes() == path.read_bytes()
    write(content(1), path, tmp_path / "previous.ckpt")
    assert not list(tmp_path.glob("*.part"))


def test_a_checkpoint_with_both_names_leaves_no_third(tmp_path):
    """A process killed between the two names of a file leaves one file with both; the next write once left a third."""
    path, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    write(content(1), path, previous)
    os.link(path, previous)
    write(content(2), path, previous)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
