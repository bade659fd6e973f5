"""WebDataset tar files elsewhere: the clips of the same files on disk, fetched once to be indexed, then as needed."""

import io
import json
import logging
import shutil
import tarfile
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from epochs import epoch, tokenize
from slap.core.errors import UserError
from slap.datamodules import AudioTextData, ManifestError, read_manifest
from slap.datamodules.audio.load import DecodeError, load, mono
from slap.datamodules.manifests.hashes import hashed
from slap.datamodules.remote import cache
from slap.datamodules.remote.uses import uses

RATE = 16000
N = 40
TARS = 8
EACH = N // TARS


def write_tar(path, first, count=EACH):
    """Write a tar file of clips of three rates, some stereo, with two captions each."""
    rng = np.random.default_rng(first)
    with tarfile.open(path, "w") as tar:
        for i in range(first, first + count):
            rate, channels = (8000, 16000, 44100)[i % 3], 1 + (i % 5 == 0)
            sound = io.BytesIO()
            soundfile.write(
                sound, rng.uniform(-0.5, 0.5, (round((0.2 + 0.01 * i) * rate), channels)), rate, format="flac"
            )
            about = {"text": [f"sound {i}", f"noise {i}"], "label_parity": str(i % 2)}
            for name, content in ((f"é{i:02d}.flac", sound.getvalue()), (f"é{i:02d}.json", json.dumps(about).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """Write 40 clips in eight tar files."""
    folder = tmp_path_factory.mktemp("corpus") / "train"
    folder.mkdir()
    for number in range(TARS):
        write_tar(folder / f"{number:03d}.tar", number * EACH)
    return folder


@pytest.fixture
def served(web, tars):
    """Serve the tar files on the web."""
    (web.folder / "train").mkdir()
    for path in tars.glob("*.tar"):
        (web.folder / "train" / path.name).write_bytes(path.read_bytes())
    return f"{web.url}/train"


@pytest.fixture
def stored(s3, tars):
    """Put the tar files into a bucket."""
    for path in tars.glob("*.tar"):
        s3.put_object(Bucket="sounds", Key=f"v1/train/{path.name}", Body=path.read_bytes())
    return "s3://sounds/v1/train"


def data_of(manifest, root=None, rank=0, world=1, **options):
    data = AudioTextData(manifest, max_duration=2.0, max_clip=None, num_buckets=2, remote_roots=root, **options)
    model = SimpleNamespace(audio=SimpleNamespace(sample_rate=RATE), text=SimpleNamespace(tokenize=tokenize))
    strategy = SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda found: found)
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        strategy=strategy,
        lightning_module=model,
        fast_dev_run=False,
        is_global_zero=True,
    )
    return data


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        one.ids == other.ids and one.captions == other.captions and torch.equal(one.audio.values, other.audio.values)
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.fixture
def machine(served, tmp_path, monkeypatch):
    """Give a function that goes on to a machine with the indexes of all tar files, and no copies of them."""

    def another(number=0):
        monkeypatch.setenv("SLAP_REMOTE_CACHE", str(tmp_path / "first"))
        read_manifest(f"{served}/{{000..007}}.tar", remote_roots=served)
        monkeypatch.setenv("SLAP_REMOTE_CACHE", str(tmp_path / f"machine {number}"))
        shutil.copytree(tmp_path / "first" / "indexes", cache.cache_folder() / "indexes")

    return another


def forget_copies():
    uses.forget()
    for path in cache.cache_folder().glob("*.tar"):
        path.unlink()


def check_same_clips(url, root, tars, address):
    local, remote = read_manifest(tars), read_manifest(url, remote_roots=root)
    assert remote.keys.tolist() == local.keys.tolist()
    assert remote.lasting.tolist() == local.lasting.tolist()
    assert remote.durations.tolist() == local.durations.tolist()
    assert remote.parts.tolist() == local.parts.tolist()
    assert remote.tasks == local.tasks
    for one, other in zip(local, remote, strict=True):
        assert one.id == other.id
        assert [caption.text for caption in one.supervisions] == [caption.text for caption in other.supervisions]
        assert torch.equal(load(mono(one, RATE)), load(mono(other, RATE)))
        assert one.custom["labels"] == other.custom["labels"]
    assert remote[7].custom["where"] == f"{address}/001.tar: é07.flac"


@pytest.mark.parametrize("names", ["/{000..007}.tar", "/*.tar", "", "/{000,001,*[23],004,00[5-7]*}.tar"])
def test_clips_are_those_on_disk_from_the_web(served, tars, names):
    check_same_clips(f"{served}{names}", served, tars, served)


@pytest.mark.parametrize("names", ["/{000..007}.tar", ""])
def test_clips_are_those_on_disk_from_a_bucket(stored, tars, names):
    check_same_clips(f"{stored}{names}", "s3://sounds/v1", tars, stored)


def test_some_tar_files_and_filters(served, tars):
    some = read_manifest(f"{served}/{{002..004}}.tar", remote_roots=served)
    assert [cut.id for cut in some] == [cut.id for cut in read_manifest(tars)][10:25]
    assert len(read_manifest(f"{served}/003.tar", remote_roots=f"{served}/003.tar")) == EACH
    for part in ("heldout", "train"):
        ours = read_manifest(f"{served}/{{000..007}}.tar#{part}=0.5", remote_roots=served)
        assert ours.keys.tolist() == read_manifest(f"{tars}#{part}=0.5").keys.tolist()


def test_nothing_is_fetched_unless_it_is_asked_for(served, web):
    for url in (f"{served}/000.tar", f"{served}/{{000..007}}.tar", f"{served}/*.tar", served):
        with pytest.raises(ManifestError, match="is refused: nothing is read from other machines"):
            read_manifest(url)
        with pytest.raises(ManifestError, match="is refused: only what lies below"):
            read_manifest(url, remote_roots=f"{web.url}/trai")
    for url in (f"{served}/{{..,x}}/000.tar", f"{served}/{{a,../b}}.tar"):
        with pytest.raises(UserError, match=r"has no `\.` or `\.\.` in it"):
            read_manifest(url, remote_roots=served)
    with pytest.raises(UserError, match=r"000\.tar\?\*\*\*: the address of shards or tar files has no query"):
        read_manifest(f"{served}/000.tar?signature=1234", remote_roots=served)
    assert not web.log


def test_each_of_the_named_tar_files_must_lie_below_a_root(served, web):
    with pytest.raises(ManifestError, match=r"/other/000\.tar is refused: only what lies below"):
        read_manifest(f"{web.url}/{{train,other}}/000.tar", remote_roots=served)
    assert not web.asked("GET")


def test_a_missing_tar_file_ends_the_run_at_once(served, web):
    (web.folder / "train" / "003.tar").unlink()
    with pytest.raises(ManifestError, match=r"http://.*/train/003\.tar: there is no such file on the server"):
        data_of(f"{served}/{{000..007}}.tar", served).train_dataloader()
    assert not web.asked("GET")
    with pytest.raises(ManifestError, match=r"/train lists no tar file x\*\.tar"):
        read_manifest(f"{served}/x*.tar", remote_roots=served)


def test_each_is_fetched_once_to_be_indexed(served, web, caplog, monkeypatch):
    monkeypatch.setattr("slap.datamodules.remote.tars.REPORT", -1.0)
    with caplog.at_level(logging.WARNING):
        read_manifest(f"{served}/{{000..007}}.tar", remote_roots=served)
    assert "8 of 8 tar files are fetched to be indexed" in caplog.text
    assert f"{served}/007.tar: 5 clips (tar file 8 of 8)" in caplog.text
    assert sorted(web.asked("GET")) == [(f"/train/{i:03d}.tar", 0) for i in range(TARS)]
    forget_copies()
    web.log.clear()
    clips = read_manifest(f"{served}/{{000..007}}.tar", remote_roots=served)
    assert not web.asked("GET")
    load(mono(clips[11], RATE))
    assert web.asked("GET") == [("/train/002.tar", 0)]


def test_a_tar_file_that_has_changed_is_indexed_again(served, web):
    read_manifest(f"{served}/{{000..007}}.tar", remote_roots=served)
    write_tar(web.folder / "train" / "002.tar", 10, 4)
    web.log.clear()
    assert len(read_manifest(f"{served}/{{000..007}}.tar", remote_roots=served)) == N - 1
    assert web.asked("GET") == [("/train/002.tar", 0)]


def test_a_cache_for_few_tar_files_suffices(served, tars, monkeypatch):
    largest = max(path.stat().st_size for path in tars.glob("*.tar"))
    monkeypatch.setenv("SLAP_REMOTE_CACHE_GB", str(3 * largest / 1e9))
    monkeypatch.setattr("slap.datamodules.remote.uses.HELD", 1)
    assert same(epoch(data_of(f"{served}/{{000..007}}.tar", served)), epoch(data_of(tars)))
    assert sum(path.stat().st_size for path in cache.cache_folder().glob("*.tar")) <= 3 * largest


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_epoch_is_that_of_the_tar_files_on_disk(served, tars, machine, workers):
    machine()
    ours = data_of(f"{served}/{{000..007}}.tar", served, num_workers=workers)
    assert same(epoch(ours), epoch(data_of(tars)))
    ours.teardown("fit")


@pytest.mark.slow
def test_an_epoch_from_a_bucket_with_workers(stored, tars):
    ours = data_of(f"{stored}/{{000..007}}.tar", stored, num_workers=2)
    assert same(epoch(ours), epoch(data_of(tars)))
    ours.teardown("fit")


def test_each_process_fetches_the_tar_files_that_it_reads(served, web, tars, machine):
    world, names, fetched = 4, Counter(), []
    for rank in range(world):
        machine(rank)
        web.log.clear()
        ours = data_of(f"{served}/{{000..007}}.tar", served, rank=rank, world=world)
        read = [name for batch in epoch(ours) for name in batch.ids]
        names.update(read)
        fetched.append(web.asked("GET", ".tar"))
        assert sorted(fetched[-1]) == sorted({(f"/{name.rpartition('/')[0]}.tar", 0) for name in read})
    assert names == Counter(cut.id for cut in read_manifest(tars))
    assert sum(map(len, fetched)) <= TARS + world  # neighbors share the tar files at which their segments meet


def test_a_run_from_disk_goes_on_from_elsewhere(served, tars):
    """The clips are the same by name, so a checkpoint of one is continued with the other."""
    whole, data = epoch(data_of(tars), 1), data_of(tars)
    data.train_dataloader()
    data.commit(1, 5)
    later = data_of(f"{served}/{{000..007}}.tar", served)
    later.load_state_dict(data.state_dict())
    assert same(epoch(later, 1), whole[5:])


def test_a_connection_that_breaks_changes_nothing(served, web, tars):
    web.breaks = {f"/train/{i:03d}.tar": [20_000, 5000] for i in range(TARS)}
    web.failing = {"/train/004.tar": [503]}
    assert same(epoch(data_of(f"{served}/{{000..007}}.tar", served)), epoch(data_of(tars)))


def test_a_tar_file_that_is_given_up_costs_its_clips(served, web, tars, machine):
    machine()
    web.breaks = {"/train/003.tar": [0] * 100}
    data = data_of(f"{served}/{{000..007}}.tar", served, max_bad=0.2)
    names = {name for batch in epoch(data) for name in batch.ids}
    assert names == {cut.id for cut in read_manifest(tars)} - {f"train/003/é{i}" for i in range(15, 20)}
    assert data.bad_clips.counts["train"] == {"unreadable": 5}


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-20_000])


@pytest.mark.parametrize(
    ("damage", "reason", "said"),
    [
        (lambda path: path.unlink(), "absent", "there is no such file on the server"),
        (cut_off, "truncated", "is not what the server said before"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "truncated", "is not what the server said before"),
    ],
)
def test_a_tar_file_that_changes_after_it_was_opened_costs_its_clips(served, web, damage, reason, said):
    clips = read_manifest(f"{served}/{{000..007}}.tar", remote_roots=served)
    forget_copies()
    damage(web.folder / "train" / "003.tar")
    with pytest.raises(DecodeError, match=said) as caught:
        load(mono(clips[17], RATE))
    assert (caught.value.bad.reason, caught.value.bad.file) == (reason, f"{served}/003.tar")
    assert len(load(mono(clips[14], RATE))) > 0
    assert len(load(mono(clips[20], RATE))) > 0


def test_a_bad_tar_file_makes_its_process_fetch_few_others(served, web, machine):
    """A replacement from anywhere would fetch a whole tar file for each bad clip."""
    for rank in range(4):
        machine(rank)
        web.breaks = {"/train/003.tar": [0] * 100}
        web.log.clear()
        data = data_of(f"{served}/{{000..007}}.tar", served, rank=rank, world=4, max_bad=1.0)
        assert sum(len(batch) for batch in epoch(data)) >= 5
        assert len({path for path, _ in web.asked("GET", ".tar")}) <= 3 + 2
        web.breaks = {}


def test_clips_near_each_other(served):
    clips = read_manifest(f"{served}/{{000..007}}.tar", remote_roots=served)
    assert [clips.near(number) for number in (0, 7, 39)] == [range(10), range(15), range(30, 40)]
    assert clips.shard(12) == clips.shard(10) != clips.shard(9)


@pytest.mark.parametrize("content", [b"", b"no tar file" * 100, None])
def test_a_tar_file_that_cannot_be_indexed_is_named_by_its_address(served, web, content):
    path = web.folder / "train" / "002.tar"
    path.write_bytes(path.read_bytes()[:30_000] if content is None else content)
    with pytest.raises(ManifestError, match=r"^http://.*/train/002\.tar ") as caught:
        read_manifest(f"{served}/{{000..007}}.tar", remote_roots=served)
    assert str(cache.cache_folder()) not in str(caught.value)


def test_compressed_tar_files_are_refused(served, web):
    (web.folder / "train" / "008.tar.gz").write_bytes(b"x")
    for url in (f"{served}/008.tar.gz", served):
        with pytest.raises(ManifestError, match=r"008\.tar\.gz is compressed, .* decompress it"):
            read_manifest(url, remote_roots=served)
    assert not web.asked("GET", ".tar.gz")


def test_tar_files_without_captions_are_unlabelled_audio(served, tars):
    options = {"unlabelled": [f"{served}/{{004..007}}.tar"], "unlabelled_share": 0.5}
    names = Counter(
        name for batch in epoch(data_of(f"{served}/{{000..003}}.tar", served, **options)) for name in batch.ids
    )
    assert {f"train/{i // EACH:03d}/é{i:02d}" for i in range(20)} <= set(names)
    assert any(name.startswith("train/006/") for name in names)


def test_the_hash_of_a_record_is_that_of_the_files_on_disk(served, web, tars):
    """It was the hash of nothing, so all manifests elsewhere had the same."""
    (known,) = hashed([tars])
    for url in (served, f"{served}/{{000..007}}.tar"):
        assert hashed([url], served) == [{"path": url, "sha256": known["sha256"]}]
    assert hashed([f"{served}/{{000..006}}.tar"], served)[0]["sha256"] != known["sha256"]
    assert data_of([], served, test=served).provenance("test")[0]["sha256"] == known["sha256"]
    assert not web.asked("GET", ".tar")
