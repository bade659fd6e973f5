"""Canaries for the promise of SECURITY.md that an audio file opens no other file and no address.

Each trap names other files, or addresses of a server that runs here. Whoever opens one of these is seen by the kernel's
watch over files (inotify) or by the server, whatever library it goes through.
"""

from __future__ import annotations

import ctypes
import io
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from slap.audio.decoders import header
from slap.audio.reader import AudioError, AudioFile, read
from slap.cli.main import main
from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.audio.load import DecodeError, load, mono

av = pytest.importorskip("av", reason="without PyAV nothing could follow a trap")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

RATE = 8000
IN_OPEN = 0x20

CANARIES = (
    "canary.wav",
    "canary.mp3",
    "canary.flac",
    "canary.ts",
    "canary.mp4",
    "list.sub",
    "canary.srt",
    "frame001.png",
)

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n{more}#EXTINF:1,\n{to}\n#EXT-X-ENDLIST\n"
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" minBufferTime="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="audio/mp4">
<Representation id="1" bandwidth="1"><BaseURL>{to}</BaseURL></Representation></AdaptationSet></Period></MPD>"""
SDP = """v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 50001 RTP/AVP 0\r\n"""
VOBSUB = "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n"

TEXTS = {
    "list.m3u8": HLS.format(to="canary.ts", more=""),
    "absolute.m3u8": HLS.format(to="file:{folder}/canary.ts", more=""),
    "web.m3u8": HLS.format(to="{web}/canary.ts", more=""),
    "crypto.m3u8": HLS.format(to="crypto+file:{folder}/canary.ts", more=""),
    "key.m3u8": HLS.format(to="canary.ts", more='#EXT-X-KEY:METHOD=AES-128,URI="canary.wav"\n'),
    "map.m3u8": HLS.format(to="canary.mp4", more='#EXT-X-MAP:URI="canary.mp4"\n'),
    "named.wav": HLS.format(to="canary.ts", more=""),
    "named.ts": HLS.format(to="{web}/canary.ts", more=""),
    "list.m3u": "#EXTM3U\ncanary.wav\n",
    "list.pls": "[playlist]\nFile1=canary.wav\nNumberOfEntries=1\n",
    "list.xspf": "<playlist><trackList><track><location>{web}/a.mp3</location></track></trackList></playlist>",
    "list.asx": '<asx version="3.0"><entry><ref href="{web}/canary.wav"/></entry></asx>',
    "list.ram": "{web}/canary.rm\n",
    "reference.asf": "[Reference]\nRef1={web}/canary.wma\n",
    "sheet.cue": 'FILE "canary.wav" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "concat.webm": "ffconcat version 1.0\nfile canary.wav\n",
    "concat.wav": "ffconcat version 1.0\nfile canary.mp3\n",
    "concat.ffconcat": "ffconcat version 1.0\nfile '{folder}/canary.wav'\n",
    "concat.txt": "file canary.wav\n",
    "web.mp3": "ffconcat version 1.0\nfile {web}/canary.mp3\n",
    "subfile.flac": "ffconcat version 1.0\nfile subfile,,start,0,end,0,,:{folder}/canary.flac\n",
    "dash.mpd": DASH.replace("{to}", "canary.mp4"),
    "dash.mp4": DASH.replace("{to}", "{web}/canary.mp4"),
    "stream.sdp": SDP,
    "stream.wav": SDP,
    "list.idx": VOBSUB,
    "list.wav": VOBSUB,
    "words.srt": "1\n00:00:00,000 --> 00:00:01,000\n{web}/canary.wav\n",
    "words.ass": "[Script Info]\nScriptType: v4.00+\nAudio File: canary.wav\n\n[Events]\n",
    "frame%03d.png": "not looked at: the name is a pattern",
    "script.avs": 'WAVSource("canary.wav")\n',
    "graph.wav": "amovie=canary.wav",
    "movie.mov": "RTSPtext\nrtsp://127.0.0.1/canary.mp4\n",
    "meta.wav": ";FFMETADATA1\ntitle=canary.wav\n",
}
"""Traps that are texts, by the names of their files; {folder} holds the canaries, {web} is the server."""

FOLLOWED = (
    "list.m3u8",
    "absolute.m3u8",
    "web.m3u8",
    "key.m3u8",
    "concat.webm",
    "concat.wav",
    "list.idx",
    "frame%03d.png",
)
"""Traps that FFmpeg falls into when it opens them as it is used to: the others are for decoders to come."""

PATHS = (
    *("concat:{folder}/canary.wav|{folder}/canary.wav", "subfile,,start,0,end,0,,:{folder}/canary.wav"),
    *("file:{folder}/canary.wav", "{web}/canary.wav", "crypto:{folder}/canary.wav", "async:file:{folder}/canary.wav"),
    *("pipe:0", "tcp://{host}", "rtp://{host}", "ffrtmphttp://{host}/a", "data:audio/wav;base64,UklGRg=="),
)
"""Paths that FFmpeg understands otherwise than the system does."""


@dataclass
class Canaries:
    """Files and a server that nobody may touch.

    Attributes:
        folder: of the files.
        web: address of the server.
        requests: that the server got.
    """

    folder: Path
    web: str = ""
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._watch >= 0

    def watch(self) -> None:
        """Watch the files from now on."""
        for name in CANARIES:
            assert self._libc.inotify_add_watch(self._watch, os.fsencode(self.folder / name), IN_OPEN) > 0

    def touched(self) -> bool:
        """Tell if one was touched since the last call."""
        requests, self.requests[:] = [*self.requests], []
        try:
            return bool(os.read(self._watch, 1 << 16)) or bool(requests)
        except BlockingIOError:
            return bool(requests)

    def text(self, template: str) -> str:
        """Return a text with the places of the canaries."""
        host = self.web.removeprefix("http://")
        return template.replace("{folder}", str(self.folder)).replace("{web}", self.web).replace("{host}", host)

    def close(self) -> None:
        """Stop watching."""
        os.close(self._watch)


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Canaries]:
    """Sounds of a constant level, pictures and subtitles, and a server."""
    folder = tmp_path / "traps"
    folder.mkdir()
    for name in CANARIES:
        (folder / name).write_bytes(b"\0\0\1\xba" * 100)
    for name in ("canary.wav", "canary.mp3", "canary.flac"):
        soundfile.write(folder / name, np.full(RATE, 0.5), RATE)
    found = Canaries(folder)

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        found.web = f"http://127.0.0.1:{server.server_port}"
        found.watch()
        yield found
        server.shutdown()
        found.close()


def ways(path: Path) -> dict[str, Callable[[], Any]]:
    """Return all ways to read a file."""

    def in_memory() -> object:
        with AudioFile(io.BytesIO(path.read_bytes()), path.name) as file:
            return file.read(16_000)

    def in_training() -> object:
        soundfile.write(path.parent / "good.wav", np.full(RATE, 0.1), RATE)
        clips = [Clip("good", path.parent / "good.wav", ["a"]), Clip("trap", path, ["b"])]
        bad: list = []
        cuts = read_manifest(write_manifest(path.parent / "m.jsonl", clips), max_bad=1.0, bad=bad)
        if bad:
            raise AudioError(bad[0].detail)
        return load(mono(cuts[1], 16_000))

    return {
        "header": lambda: header(str(path)),
        "read": lambda: read(path, 16_000),
        "memory": in_memory,
        "training": in_training,
    }


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_traps_work(canaries: Canaries, name: str) -> None:
    """A canary that nothing could wake would be none."""
    path = canaries.folder / name
    path.write_text(canaries.text(TEXTS[name]))
    assert not canaries.touched()
    with path.open("rb") as file:
        for source in (str(path), file):
            with suppress(av.FFmpegError, IndexError), av.open(source) as container:
                list(container.decode(container.streams[0]))
    assert canaries.touched()


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_names_others_opens_none(canaries: Canaries, name: str) -> None:
    path = canaries.folder / name
    path.write_text(canaries.text(TEXTS[name]))
    for way, attempt in ways(path).items():
        with pytest.raises((AudioError, DecodeError)) as caught:
            attempt()
        assert name in str(caught.value), way
        assert not canaries.touched(), way


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_a_path_of_the_system(canaries: Canaries, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(canaries.folder)
    path = canaries.text(name)
    for attempt in (header, AudioFile, lambda path: read(path, 16_000)):
        with pytest.raises(AudioError, match="there is no file"):
            attempt(path)
    assert not canaries.touched()


def test_a_file_whose_name_is_a_protocol_is_read(canaries: Canaries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(canaries.folder)
    soundfile.write("subfile,,start,0,end,0,,:canary.wav", np.full(RATE, 0.1), RATE, format="WAV")
    write_mov(Path("file:canary.wav"))
    for name in ("subfile,,start,0,end,0,,:canary.wav", "file:canary.wav"):
        assert abs(read(name, RATE)).max() < 0.2
    assert not canaries.touched()


def test_commands_name_each_trap_and_go_on(
    canaries: Canaries, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    (sounds / "to").symlink_to(canaries.folder)  # a link to a folder is not followed
    traps = [name for name in TEXTS if name.endswith((".wav", ".webm", ".mp3", ".mp4", ".mov", ".flac", ".asf"))]
    for name in traps:
        (sounds / name).write_text(canaries.text(TEXTS[name]))
    soundfile.write(sounds / "good.wav", np.random.default_rng(0).uniform(-0.3, 0.3, RATE), RATE)
    assert main(["embed", str(tiny_checkpoint), str(sounds), "--out", str(tmp_path / "e.parquet"), "--json"]) == 3
    shown = capsys.readouterr()
    assert '"rows": 1,' in shown.out
    for name in traps:
        assert str(sounds / name) in shown.out + shown.err
    assert not canaries.touched()


# -- QuickTime --------------------------------------------------------------------------------------------------------


def write_mov(path: Path) -> None:
    """Write a second of uncompressed sound at a tenth of full scale."""
    with av.open(str(path.with_name("plain.mov")), "w", format="mov") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, RATE), 3277, np.int16), "s16", "mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    path.with_name("plain.mov").rename(path)


def box(kind: bytes, content: bytes) -> bytes:
    """Return a box of QuickTime."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def elsewhere(raw: bytes, reference: bytes) -> bytes:
    """Return a movie whose samples lie where a reference says; the boxes around grow with it."""

    def changed(content: bytes, path: list[bytes]) -> bytes:
        parts, at = [], 0
        while at < len(content):
            size, kind = struct.unpack_from(">I4s", content, at)
            inner = content[at + 8 : at + size]
            if kind == path[0]:
                inner = inner[:4] + struct.pack(">I", 1) + reference if len(path) == 1 else changed(inner, path[1:])
            parts.append(box(kind, inner))
            at += size
        return b"".join(parts)

    return changed(raw, [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"])


def alias(target: Path) -> bytes:
    """Return a QuickTime alias to an absolute path."""
    name = target.name.encode()[:63]
    record = bytes(10) + bytes([1]) + b"M".ljust(27, b"\0") + bytes(12)
    record += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", -1, -1) + bytes(16)
    where = os.fsencode(target)
    record += struct.pack(">hh", 2, len(where)) + where + bytes(len(where) % 2) + struct.pack(">h", -1) + bytes(2)
    return box(b"alis", bytes(4) + record)


def movie(canaries: Canaries, kind: str) -> Path:
    """Write a movie that says its samples lie in a canary."""
    path = canaries.folder / "elsewhere.mov"
    write_mov(path)
    target = canaries.folder / "canary.wav"
    urls = {"url": f"file://{target}", "web": f"{canaries.web}/canary.wav"}
    reference = alias(target) if kind == "alias" else box(b"url ", bytes(4) + urls[kind].encode() + b"\0")
    path.write_bytes(elsewhere(path.read_bytes(), reference))
    return path


def test_the_movie_works(canaries: Canaries) -> None:
    path = movie(canaries, "alias")
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        list(container.decode(audio=0))
    assert canaries.touched()


@pytest.mark.parametrize("kind", ["url", "web"])
def test_a_movie_whose_samples_lie_elsewhere_opens_nothing(canaries: Canaries, kind: str) -> None:
    path = movie(canaries, kind)
    for way, attempt in ways(path).items():
        found = attempt()
        assert way == "header" or abs(found).max() < 0.2, f"{way}: these are the samples of the canary"
        assert not canaries.touched(), way


def test_a_movie_whose_samples_lie_behind_an_alias_is_refused(canaries: Canaries) -> None:
    path = movie(canaries, "alias")
    for way, attempt in ways(path).items():
        with pytest.raises((AudioError, DecodeError), match=path.name):
            attempt()
        assert not canaries.touched(), way


def test_attachments_and_linked_segments_of_matroska_are_not_read(canaries: Canaries) -> None:
    path = canaries.folder / "attached.mka"
    with av.open(str(path), "w", format="matroska") as container:
        container.add_attachment("canary.wav", "audio/wav", (canaries.folder / "canary.wav").read_bytes())
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, RATE), 3277, np.int16), "s16", "mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    raw = path.read_bytes()
    following = b"canary.wav\0\0\0\0\0\0"  # NextUID and NextFilename within the segment's description
    more = b"\x3e\xb9\x23\x90" + following + b"\x3e\x83\xbb\x8a" + b"canary.wav"
    at = raw.index(b"\x15\x49\xa9\x66")  # Info, with a size of eight bytes
    size = int.from_bytes(raw[at + 4 : at + 12]) + len(more)
    path.write_bytes(raw[: at + 4] + size.to_bytes(8) + more + raw[at + 12 :])
    canaries.touched()
    for way, attempt in ways(path).items():
        found = attempt()
        assert way == "header" or abs(found).max() < 0.2, f"{way}: these are the samples of the canary"
        assert not canaries.touched(), way
