"""Shar folders elsewhere: the same clips as on disk, each process fetches its own shards, faults cost their clips."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from epochs import epoch, tokenize
from slap.core.errors import UserError
from slap.datamodules import AudioTextData, Clip, ManifestError, read_manifest, write_manifest
from slap.datamodules.audio.load import DecodeError, load, mono
from slap.datamodules.manifests.sequence import ConcatClips
from slap.datamodules.remote import cache
from slap.datamodules.shar.write import pack

RATE = 16000
N = 40
SHARDS = 8


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Pack 40 clips of three rates, some stereo, in eight shards."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(N):
        rate, channels = (8000, 16000, 44100)[i % 3], 1 + (i % 5 == 0)
        soundfile.write(folder / f"{i}.wav", rng.uniform(-0.5, 0.5, (round((0.2 + 0.01 * i) * rate), channels)), rate)
        clips.append(Clip(f"set/é{i}.x", folder / f"{i}.wav", [f"sound {i}", f"noise {i}"], {"parity": str(i % 2)}))
    pack(write_manifest(folder / "m.jsonl", clips), folder / "shards", shard_size=N // SHARDS, workers=0)
    return folder / "shards"


@pytest.fixture
def served(web, packed):
    """Serve the shards on the web."""
    (web.folder / "train").mkdir()
    for path in packed.iterdir():
        (web.folder / "train" / path.name).write_bytes(path.read_bytes())
    return f"{web.url}/train"


@pytest.fixture
def stored(s3, packed):
    """Put the shards into a bucket."""
    for path in packed.iterdir():
        s3.put_object(Bucket="sounds", Key=f"v1/train/{path.name}", Body=path.read_bytes())
    return "s3://sounds/v1/train"


def data_of(manifest, root=None, rank=0, world=1, **options):
    data = AudioTextData(
        manifest, max_duration=2.0, max_clip=None, num_buckets=2, remote_roots=root or manifest, **options
    )
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


def check_same_clips(url, root, packed):
    local, remote = read_manifest(packed), read_manifest(url, remote_roots=root)
    assert remote.keys.tolist() == local.keys.tolist()
    assert remote.durations.tolist() == local.durations.tolist()
    assert remote.parts.tolist() == local.parts.tolist()
    assert remote.tasks == local.tasks
    for one, other in zip(local, remote, strict=True):
        assert torch.equal(load(mono(one, RATE)), load(mono(other, RATE)))
        assert one.custom["labels"] == other.custom["labels"]
    assert remote[7].where == f"{url}/cuts.000001.jsonl.gz, line 3"


def test_clips_are_those_on_disk_from_the_web(served, packed):
    check_same_clips(served, served, packed)


def test_clips_are_those_on_disk_from_a_bucket(stored, packed):
    check_same_clips(stored, "s3://sounds/v1", packed)


def test_shards_by_their_numbers(served, web, packed):
    web.index = False
    with pytest.raises(ManifestError, match=r"/train: there is no such file .*give the numbers: FOLDER/\{000000\.\."):
        read_manifest(served, remote_roots=served)
    some = read_manifest(f"{served}/{{000002..000004}}", remote_roots=served)
    assert [cut.id for cut in some] == [cut.id for cut in read_manifest(packed)][10:25]
    assert len(read_manifest(f"{served}/{{000000..000007}}#heldout=0.5", remote_roots=served)) < N
    with pytest.raises(
        ManifestError, match=r"recording\.000001\.tar: set/é5\.x\.flac: no caption: the sample has neither"
    ):
        read_manifest(f"{served}/recording.000001.tar", remote_roots=served)
    for wrong in ("{5..2}", "{0..99999999}"):
        with pytest.raises(UserError, match="a range goes from a number to a larger one"):
            read_manifest(f"{served}/{wrong}", remote_roots=served)


def test_nothing_is_read_unless_it_is_asked_for(served, web):
    with pytest.raises(ManifestError, match=r"/train is refused: nothing is read from other machines"):
        read_manifest(served)
    with pytest.raises(ManifestError, match="is refused: only what lies below"):
        read_manifest(served, remote_roots=f"{web.url}/trai")
    assert not web.log


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_epoch_is_that_of_the_shards_on_disk(served, packed, workers):
    assert same(epoch(data_of(served, num_workers=workers)), epoch(data_of(packed)))


@pytest.mark.slow
def test_an_epoch_from_a_bucket_with_workers(stored, packed):
    assert same(epoch(data_of(stored, num_workers=2)), epoch(data_of(packed)))


@pytest.mark.parametrize("world", [2, 4])
def test_each_process_fetches_the_shards_that_it_reads(served, web, packed, world, tmp_path, monkeypatch):
    names, fetched = Counter(), []
    for rank in range(world):
        monkeypatch.setenv("SLAP_REMOTE_CACHE", str(tmp_path / f"node {rank}"))
        web.log.clear()
        batches = epoch(data_of(served, rank=rank, world=world))
        names.update(name for batch in batches for name in batch.ids)
        fetched.append({path for path, _ in web.asked("GET", ".tar")})
        assert len(web.asked("GET", ".tar")) == len(fetched[-1])
    assert names == Counter(cut.id for cut in read_manifest(packed))
    assert len(set().union(*fetched)) == SHARDS
    assert sum(map(len, fetched)) <= SHARDS + world - 1  # neighbors share the shard at which their segments meet


def test_an_interrupted_epoch_goes_on_with_the_next_batch(served, web, tmp_path, monkeypatch):
    whole = epoch(data_of(served), 1)
    data = data_of(served)
    data.train_dataloader()
    data.commit(1, 5)
    monkeypatch.setenv("SLAP_REMOTE_CACHE", str(tmp_path / "another node"))
    later = data_of(served)
    later.load_state_dict(data.state_dict())
    assert same(epoch(later, 1), whole[5:])


def test_other_shards_are_no_continuation(served, web):
    data = data_of(served)
    data.train_dataloader()
    data.commit(0, 2)
    later = data_of(f"{served}/{{000000..000006}}", served)
    later.load_state_dict(data.state_dict())
    with pytest.raises(UserError, match="the data have changed"):
        later.train_dataloader()


def test_a_connection_that_breaks_changes_nothing(served, web, packed):
    web.breaks = {f"/train/recording.00000{i}.tar": [20_000, 5000] for i in range(SHARDS)}
    assert same(epoch(data_of(served)), epoch(data_of(packed)))


def test_a_missing_shard_is_found_at_once(served, web):
    (web.folder / "train" / "recording.000003.tar").unlink()
    with pytest.raises(ManifestError, match=r"lack their cuts or their recording: cuts\.000003\.jsonl\.gz"):
        read_manifest(served, remote_roots=served)
    with pytest.raises(ManifestError, match=r"train/recording\.000003\.tar: there is no such file"):
        read_manifest(f"{served}/{{000000..000007}}", remote_roots=served)
    assert not web.asked("GET", ".tar")


def damaged(web, served, damage):
    clips = read_manifest(served, remote_roots=served)
    path = web.folder / "train" / "recording.000003.tar"
    damage(path)
    return clips


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
def test_a_shard_that_changes_after_it_was_opened_costs_its_clips(served, web, damage, reason, said):
    clips = damaged(web, served, damage)
    with pytest.raises(DecodeError, match=said) as caught:
        load(mono(clips[17], RATE))
    assert (caught.value.bad.reason, caught.value.bad.file) == (reason, f"{served}/recording.000003.tar")
    assert len(load(mono(clips[14], RATE))) > 0
    assert len(load(mono(clips[20], RATE))) > 0


def test_a_tar_that_was_cut_off_before_costs_its_clips_or_ends_the_run(served, web, packed):
    path = web.folder / "train" / "recording.000003.tar"
    path.write_bytes(path.read_bytes()[:30_000])
    data = data_of(served, max_bad=0.2)
    names = {name for batch in epoch(data) for name in batch.ids}
    assert names == {cut.id for cut in read_manifest(packed)} - {f"set/é{i}.x" for i in (17, 18, 19)}
    assert data.bad_clips.counts["train"] == {"truncated": 3}
    with pytest.raises(UserError, match=r"clips are bad \(\d truncated\), more than max_bad=0\.05"):
        epoch(data_of(served))


def test_a_bad_shard_makes_its_process_fetch_few_others(served, web, tmp_path, monkeypatch):
    """A replacement from anywhere would fetch a whole shard for each bad clip."""
    (web.folder / "train" / "recording.000003.tar").write_bytes(b"no tar")
    for rank in range(4):
        monkeypatch.setenv("SLAP_REMOTE_CACHE", str(tmp_path / f"node {rank}"))
        web.log.clear()
        data = data_of(served, rank=rank, world=4, max_bad=1.0)
        assert sum(len(batch) for batch in epoch(data)) >= 5
        assert len(set(web.asked("GET", ".tar"))) <= 3 + 2


def test_clips_near_each_other(served):
    clips = read_manifest(served, remote_roots=served)
    assert [clips.near(number) for number in (0, 7, 39)] == [range(10), range(15), range(30, 40)]
    joined = ConcatClips([clips[::2], clips[1::2]])
    assert [joined.near(number) for number in (0, 20)] == [range(5), range(20, 25)]
    assert [joined.shard(number) for number in (0, 20)] == [clips.shard(0), clips.shard(1)]


def test_audio_in_the_wrong_order_is_no_other_clips(served, web):
    folder = web.folder / "train"
    one, other = folder / "recording.000003.tar", folder / "recording.000004.tar"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    clips = read_manifest(served, remote_roots=served)
    with pytest.raises(DecodeError, match=r"recording\.000003\.tar has the audio 'set/é20\.x\.flac' in the place of"):
        load(mono(clips[15], RATE))


def test_a_damaged_file_of_cuts_is_named_by_its_address(served, web):
    path = web.folder / "train" / "cuts.000002.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ManifestError, match=r"http://.*/train/cuts\.000002\.jsonl\.gz, after line \d+: .*damaged"):
        read_manifest(served, remote_roots=served)


def test_a_cache_for_few_shards_suffices(served, web, packed, monkeypatch):
    largest = max(path.stat().st_size for path in packed.iterdir())
    monkeypatch.setenv("SLAP_REMOTE_CACHE_GB", str(3 * largest / 1e9))
    monkeypatch.setattr("slap.datamodules.remote.uses.HELD", 1)
    assert same(epoch(data_of(served)), epoch(data_of(packed)))
    assert sum(path.stat().st_size for path in cache.cache_folder().glob("*.tar")) <= 3 * largest


def test_an_evaluation_that_the_cache_cannot_hold_is_warned_of(served, packed, monkeypatch, caplog):
    data = AudioTextData(val=served, max_duration=2.0, max_clip=None, remote_roots=served)
    data.connect(RATE, tokenize)
    local = AudioTextData(val=packed, max_duration=2.0, max_clip=None)
    local.connect(RATE, tokenize)
    assert same(list(data.val_dataloader()), list(local.val_dataloader()))
    assert "SLAP_REMOTE_CACHE_GB" not in caplog.text
    monkeypatch.setenv("SLAP_REMOTE_CACHE_GB", "0.0001")
    data.val_dataloader()
    assert "the shards of val have" in caplog.text
    assert "raise SLAP_REMOTE_CACHE_GB" in caplog.text


def test_the_index_is_kept_until_a_shard_changes(served, web, monkeypatch):
    for module in ("cut_index", "cuts"):
        monkeypatch.setattr(f"slap.datamodules.manifests.{module}.SMALL", 5)
    read_manifest(served, remote_roots=served)
    web.log.clear()
    assert len(read_manifest(served, remote_roots=served)) == N
    assert len(web.asked("GET")) == 1  # the index page
    path = web.folder / "train" / "cuts.000002.jsonl.gz"
    path.write_bytes((web.folder / "train" / "cuts.000002.jsonl.gz").read_bytes() + b"\n")
    web.log.clear()
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(served, remote_roots=served)
