"""Canaries for the promises of SECURITY.md about manifests and tar files."""

import gzip
import io
import json
import shutil
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slap.datamodules import AudioTextData, ManifestError, read_manifest
from slap.datamodules.audio.tar_member import tar_members
from slap.datamodules.shar.tar import LONGEST_NAME, TarMemberError, check, members
from web_server import serving

RATE = 8000


@pytest.fixture
def mark(tmp_path: Path):
    """A path that must not exist in the end."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, RATE), RATE)
    return tmp_path / "a.wav"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments):
        raise AssertionError(f"somebody connects to {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# -- manifests --------------------------------------------------------------------------------------------------------

SOURCES_REFUSED = [
    {"type": "command", "source": "mkdir {mark}"},
    {"type": "url", "source": "http://localhost/a.wav"},
    {"type": "shar", "source": ""},
    {"type": "file", "source": "pipe:mkdir {mark}"},
    {"type": "file", "source": "mkdir {mark} |"},
    {"type": "file", "source": "mkdir {mark} | "},
    {"type": "file", "source": "s3://bucket/a.wav"},
    {"type": "file", "source": "a.wav\0.flac"},
]


PATHS_REFUSED = ["pipe:mkdir {mark}", "mkdir {mark} |", "http://localhost/a.wav", "/dev/zero", "x.sph;mkdir {mark}"]


def record(source: dict, **custom: object) -> dict:
    recording = {"id": "r", "sources": [{"channels": [0], **source}], "sampling_rate": RATE, "num_samples": RATE}
    recording |= {"duration": 1.0, "channel_ids": [0]}
    text = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 1.0, "channel": 0, "text": "a sound"}
    cut = {"id": "c", "start": 0.0, "duration": 1.0, "channel": 0, "supervisions": [text], "recording": recording}
    return {**cut, "type": "MonoCut", "custom": custom} if custom else {**cut, "type": "MonoCut"}


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("source", SOURCES_REFUSED)
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_manifests_of_cuts_name_plain_files_alone(
    tmp_path: Path, mark: Path, sound: Path, source: dict, suffix: str
) -> None:
    source = {**source, "source": source["source"].format(mark=mark)}
    good = {"type": "file", "source": "a.wav"}
    noise = record(source)["recording"]
    for one in (record(source), record(good, noise=noise), record(good, deep=[{"x": noise}])):
        raw = json.dumps(one).encode()
        (tmp_path / f"m.{suffix}").write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
        with pytest.raises(ManifestError, match=r"line 1: .*refused"):
            read_manifest(tmp_path / f"m.{suffix}")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "audio", ["pipe:mkdir {mark}", "mkdir {mark} |", "http://localhost/a.wav", "/dev/zero", "x.sph;mkdir {mark}"]
)
def test_tables_name_plain_files_alone(tmp_path: Path, mark: Path, sound: Path, audio: str) -> None:
    rows = ["audio,caption", "a.wav,a sound", f"{audio.format(mark=mark)},another"]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    bad: list = []
    assert len(read_manifest(tmp_path / "m.csv", max_bad=0.5, bad=bad)) == 1
    assert bad[0].reason in ("absent", "unreadable")


@pytest.fixture
def corpus(tmp_path: Path, sound: Path) -> Path:
    """data/a.wav, and outside of data/ a secret, to which a link in data/ leads."""
    (tmp_path / "data").mkdir()
    shutil.move(sound, tmp_path / "data" / "a.wav")
    shutil.copy(tmp_path / "data" / "a.wav", tmp_path / "secret.wav")
    shutil.copytree(tmp_path / "data", tmp_path / "data2")
    (tmp_path / "data" / "link.wav").symlink_to(tmp_path / "secret.wav")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["../secret.wav", "{folder}/secret.wav", "link.wav", "../data2/a.wav", "x/../../secret.wav"]
)
@pytest.mark.parametrize("kind", ["table", "cuts"])
@pytest.mark.parametrize("by", ["argument", "variable"])
def test_audio_lies_below_the_data_root(
    corpus: Path, name: str, kind: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(audio: str) -> object:
        one = {"audio": audio, "caption": "x"} if kind == "table" else record({"type": "file", "source": audio})
        (corpus / "data" / "m.jsonl").write_text(json.dumps(one))
        return read_manifest(corpus / "data" / "m.jsonl", data_root=corpus / "data" if by == "argument" else None)

    (corpus / "data" / "x").mkdir()
    audio = name.format(folder=corpus)
    assert len(read("a.wav")) == 1
    if by == "variable":
        assert len(read(audio)) == 1  # anywhere, unless told
        monkeypatch.setenv("SLAP_DATA_ROOT", f"{corpus}/nothing_there")
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            read("a.wav")
        monkeypatch.setenv("SLAP_DATA_ROOT", str(corpus / "data"))
    assert len(read("a.wav")) == 1
    with pytest.raises(ManifestError, match=r"m\.jsonl, line 1: .*is refused: audio must lie below .*data"):
        read(audio)


def test_the_data_module_hands_the_data_root_on(corpus: Path) -> None:
    (corpus / "m.csv").write_text("audio,caption\nsecret.wav,x\n")
    for root, fits in ((corpus / "data", False), ([corpus / "data", corpus], True)):
        data = AudioTextData(corpus / "m.csv", max_duration=2.0, max_clip=None, data_root=root)
        if fits:
            data.setup("fit")
        else:
            with pytest.raises(ManifestError, match="audio must lie below"):
                data.setup("fit")


# -- tar files --------------------------------------------------------------------------------------------------------


def tar_of(path: Path, *infos: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, content in infos:
            tar.addfile(info, io.BytesIO(content))
    return path


def info(name: str, size: int = 3, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = size, kind, "/etc/passwd"
    return made


@pytest.mark.parametrize(
    "member",
    [
        info("/abs.flac"), info("../up.flac"), info("a/../../up.flac"), info("a\\b.flac"),
        info("link.flac", 0, tarfile.SYMTYPE), info("hard.flac", 0, tarfile.LNKTYPE),
        info("pipe.flac", 0, tarfile.FIFOTYPE), info("device.flac", 0, tarfile.CHRTYPE),
    ],
)  # fmt: skip
def test_tar_members_that_lead_elsewhere(tmp_path: Path, member: tarfile.TarInfo) -> None:
    path = tar_of(tmp_path / "a.tar", (member, b"abc"[: member.size]))
    with pytest.raises(ManifestError, match="refused"):
        list(tar_members(path))
    ((found, _),) = members(path)
    with pytest.raises(TarMemberError):
        check(found, 100)


def test_tar_members_of_absurd_sizes(tmp_path: Path) -> None:
    raw = bytearray(tar_of(tmp_path / "a.tar", (info("a.flac"), b"abc")).read_bytes())
    header = tarfile.TarInfo.frombuf(bytes(raw[:512]), "utf-8", "surrogateescape")
    header.size = 2**40
    raw[:512] = header.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "lie.tar").write_bytes(raw)
    with pytest.raises(ManifestError, match=r"cut off|cannot be read"):
        list(tar_members(tmp_path / "lie.tar"))
    with pytest.raises(TarMemberError, match="more than 100 bytes"):
        check(header, 100)


def test_sparse_tar_members_are_refused(tmp_path: Path) -> None:
    """A terabyte of nothing, in a kilobyte."""
    member = info("a.flac", 0, tarfile.GNUTYPE_SPARSE)
    raw = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    raw[483:495] = b"%011o\0" % 2**30  # its size when it is filled up
    raw[148:156] = b"%06o\0 " % (256 + sum(raw[:148]) + sum(raw[156:512]))
    (tmp_path / "a.tar").write_bytes(bytes(raw) + bytes(1024))
    ((found, _),) = members(tmp_path / "a.tar")
    assert found.issparse()
    with pytest.raises(TarMemberError):
        check(found, 2**31)
    with pytest.raises(ManifestError, match="refused"):
        list(tar_members(tmp_path / "a.tar"))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_tar_names_that_would_fill_the_memory_are_refused(tmp_path: Path, kind: bytes) -> None:
    """Python reads them as a whole; in a compressed file they cost nothing."""
    size = LONGEST_NAME + 1
    raw = info("name", size, kind).tobuf(tarfile.GNU_FORMAT) + bytes(size + -size % 512) + info("a.flac", 0).tobuf()
    (tmp_path / "a.tar").write_bytes(raw + bytes(1024))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(raw + bytes(1024)))
    assert (tmp_path / "a.tar.gz").stat().st_size < 10_000
    with pytest.raises(ManifestError, match="which are refused"):
        list(tar_members(tmp_path / "a.tar"))
    for name in ("a.tar", "a.tar.gz"):
        with pytest.raises(tarfile.ReadError, match="which are refused"):
            list(members(tmp_path / name))


@pytest.mark.parametrize(
    "source", ["http://{host}/a.wav", "http://me:geheim@{host}/a.wav", "s3://bucket/a.wav?k=geheim"]
)
def test_manifests_name_no_other_machine(corpus: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even below a remote root: these are for what the user names."""
    with serving(corpus / "data") as web:
        monkeypatch.setenv("SLAP_REMOTE_ROOTS", f"{web.url} s3://bucket")
        audio = source.format(host=web.url.removeprefix("http://"))
        for kind in ("file", "url"):
            (corpus / "data" / "m.jsonl").write_text(json.dumps(record({"type": kind, "source": audio})))
            with pytest.raises(ManifestError, match="is refused") as caught:
                read_manifest(corpus / "data" / "m.jsonl")
            assert "geheim" not in str(caught.value)
        (corpus / "data" / "m.csv").write_text(f"audio,caption\n{audio},x\n")
        with pytest.raises(ManifestError):
            read_manifest(corpus / "data" / "m.csv")
        assert not web.log
