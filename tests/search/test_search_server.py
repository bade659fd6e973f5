"""The local server: only this machine, only its own page, only files of the index, and sound that can be sought in."""

import http.client
import io
import json
import os
import shutil
import socket
import struct
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from slap.audio.scan import file_id
from slap.core.calibration import Calibration
from slap.search.query import Index
from slap.search.store import Store
from slap.search.update import Update
from slap.search.web.app import search_app
from slap.search.web.media import byte_range
from slap.search.web.server import Server
from tests.support.late_video import late_video

HOSTILE = "<img src=x onerror=alert(1)> & \"quotes'.wav"


@pytest.fixture
def serve(sounds):
    """Index the sounds and serve the index, whose `get` asks it."""
    with ExitStack() as running:

        def start():
            sounds.update()
            server = running.enter_context(Server(search_app(Index.open(sounds.index))))
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            running.callback(thread.join)
            running.callback(server.stop)
            sounds.port = server.address[1]
            sounds.get = lambda path, headers=None, method="GET": get(sounds.port, path, headers, method)
            return sounds

        yield start


@pytest.fixture
def served(sounds, serve):
    """A running server of an index of three sounds."""
    sounds.tone("a.wav", 600, seconds=2)
    sounds.tone("b/c.flac", 3000, seconds=3)
    sounds.tone(HOSTILE, 5000)
    return serve()


def get(port, path, headers=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    answer.body = answer.read()
    connection.close()
    return answer


# -- what it gives ----------------------------------------------------------------------------------------------------


def test_search_then_hear_and_see_what_was_found(served):
    answer = served.get("/api/search?q=a+tone+of+600+Hz&top=2")
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
    hits = json.loads(answer.body)["hits"]
    assert hits[0]["path"] == "a.wav"
    assert len(hits) == 2
    sound = served.get(f"/audio?id={hits[0]['id']}")
    assert (sound.status, sound.getheader("Content-Type")) == (200, "audio/wav")
    assert sound.body == (served.folder / "a.wav").read_bytes()
    picture = served.get(f"/picture?id={hits[0]['id']}&start=0&end=2")
    assert (picture.status, picture.getheader("Content-Type")) == (200, "image/png")
    assert picture.body.startswith(b"\x89PNG\r\n\x1a\n")


def test_what_is_like_a_hit(served):
    hits = json.loads(served.get(f"/api/like?id={file_id('a.wav')}&at=0").body)["hits"]
    assert {hit["path"] for hit in hits} == {"b/c.flac", HOSTILE}


def test_about_the_index(served):
    about = json.loads(served.get("/api/index").body)
    assert about == {
        "folder": "sounds",
        "files": 3,
        "windows": 3,
        "model": "model.ckpt",
        "window": 10.0,
        "probabilities": False,
    }
    served.tone("new.wav", 1000)
    served.update()  # while it is being served
    assert json.loads(served.get("/api/index").body)["files"] == 4
    assert json.loads(served.get("/api/search?q=1000").body)["hits"][0]["path"] == "new.wav"


def test_a_rebuilt_index_is_opened_again(served):
    """It embedded queries by the old model and compared them with embeddings of the new one."""
    backend = served.model.backend
    assert json.loads(served.get("/api/search?q=5000").body)["hits"][0]["path"] == HOSTILE
    backend.name = "spectral-2"
    backend.encode_audio = lambda clips, old=backend.encode_audio: old(clips).flip(1)  # another space
    backend.encode_text = lambda texts, old=backend.encode_text: old(texts).flip(1)
    metadata = replace(served.metadata(), window=5.0)
    store = Store(served.index, backend.embedding_dim, anew=True)
    metadata.save(served.index)
    Update(store, metadata, served.model).run()
    hits = json.loads(served.get("/api/search?q=5000").body)["hits"]
    assert (hits[0]["path"], len(hits)) == (HOSTILE, 3)
    assert hits[0]["score"] > 0.9
    assert json.loads(served.get("/api/index").body)["window"] == 5.0


def test_composed_queries_of_the_page(served):
    found = json.loads(served.get("/api/search?q=600&without=3000&without=5000").body)["hits"]
    expected = Index.open(served.index).composed(text=["600"], without=["3000", "5000"])
    assert [(hit["path"], hit["score"]) for hit in found] == [(hit.path, pytest.approx(hit.score)) for hit in expected]
    hits = json.loads(served.get(f"/api/like?id={file_id('a.wav')}&at=0&q=5000&without=600").body)["hits"]
    assert hits[0]["path"] == HOSTILE
    answer = served.get("/api/search?q=600&without=600")
    assert (answer.status, "nothing is left" in json.loads(answer.body)["error"]) == (400, True)
    assert served.get(f"/api/search?q=600&without={'x' * 501}").status == 400


def test_a_folder_that_was_relocated_is_served_from_there(served):
    served.folder.rename(served.folder.with_name("moved"))
    replace(served.metadata(), folder=str(served.folder.with_name("moved"))).save(served.index)
    assert served.get(f"/audio?id={file_id('a.wav')}").status == 200


def test_head_gives_the_headers_alone(served):
    answer = served.get(f"/audio?id={file_id('a.wav')}", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.getheader("Content-Length")) == (served.folder / "a.wav").stat().st_size


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=60000-", 60_000, None), ("bytes=-10", -10, None)],
)
def test_parts_of_a_sound(served, asked, start, stop):
    whole = (served.folder / "a.wav").read_bytes()
    answer = served.get(f"/audio?id={file_id('a.wav')}", {"Range": asked})
    assert (answer.status, answer.body) == (206, whole[start:stop])
    first = start % len(whole)
    assert answer.getheader("Content-Range") == f"bytes {first}-{first + len(answer.body) - 1}/{len(whole)}"
    assert answer.getheader("Accept-Ranges") == "bytes"


def test_parts_that_are_not_there(served):
    size = (served.folder / "a.wav").stat().st_size
    answer = served.get(f"/audio?id={file_id('a.wav')}", {"Range": f"bytes={size}-"})
    assert (answer.status, answer.getheader("Content-Range")) == (416, f"bytes */{size}")


@pytest.mark.parametrize("header", [None, "", "bytes=-", "items=0-1", "bytes=0-1,5-6", "bytes=9-2", "bytes=x-", "0-1"])
def test_ranges_that_are_none_ask_for_all(header):
    assert byte_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999-"])
def test_ranges_beyond_the_end(header):
    with pytest.raises(IndexError):
        byte_range(header, 100)


@pytest.mark.parametrize(("name", "channels"), [("x.aiff", 1), ("x.au", 2), ("x.caf", 3), ("x.flac", 2)])
def test_what_browsers_do_not_play_becomes_wav(sounds, serve, name, channels):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4001, channels))
    soundfile.write(sounds.folder / name, samples, 22_050)
    url = f"/audio?id={file_id(name)}"
    answer = serve().get(url)
    assert answer.getheader("Content-Type") == "audio/wav"
    whole = answer.body
    assert len(whole) == int(answer.getheader("Content-Length"))
    decoded, rate = soundfile.read(io.BytesIO(whole), always_2d=True)
    assert rate == 22_050
    np.testing.assert_allclose(decoded, samples if channels < 3 else samples.mean(1, keepdims=True), atol=1e-3)
    for start, stop in ((0, 10), (40, 50), (44, 47), (1001, 5003), (len(whole) - 3, len(whole))):
        assert sounds.get(url, {"Range": f"bytes={start}-{stop - 1}"}).body == whole[start:stop]


def test_what_only_ffmpeg_reads_is_played(sounds, serve):
    """An m4a was found, and then 415 with an absolute path in the message."""
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(22_050) / 22_050)
    with av.open(str(sounds.folder / "x.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=22_050, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 22_050, Fraction(1, 22_050), 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    url = f"/audio?id={file_id('x.m4a')}"
    whole = serve().get(url).body
    decoded, rate = soundfile.read(io.BytesIO(whole))
    assert (rate, len(decoded) / rate) == (22_050, pytest.approx(1.0, abs=0.1))
    assert np.abs(decoded[4000:-4000]).max() == pytest.approx(0.3, abs=0.02)
    for start, stop in ((40, 50), (1001, 5003), (20_000, 21_000), (20_001, 20_002), (len(whole) - 3, len(whole))):
        part = sounds.get(url, {"Range": f"bytes={start}-{stop - 1}"}).body
        assert len(part) == stop - start
        if not start % 2 and start >= 44:
            sought = np.frombuffer(part[: len(part) // 2 * 2], "<i2")
            np.testing.assert_allclose(sought, np.frombuffer(whole[start : start + 2 * len(sought)], "<i2"), atol=40)
    assert sounds.get(url.replace("audio", "picture")).status == 200
    assert sounds.get(url.replace("audio", "api/span") + "&q=1000").status == 200


def test_hits_pictures_and_sound_are_on_the_clock_of_a_video(sounds, serve):
    """Audio from 2 to 5 s of a video, in which a tone of 3000 Hz follows one of 500 Hz at 4 s."""
    import matplotlib.image

    hz = np.concatenate([np.full(2 * 16_000, 500), np.full(16_000, 3000)])
    late_video(sounds.folder / "late.mp4", 0.3 * np.sin(2 * np.pi * np.cumsum(hz) / 16_000), 16_000, 2.0, 6)
    (hit,) = json.loads(serve().get("/api/search?q=3000").body)["hits"]
    assert [hit[name] for name in ("start", "end", "duration")] == pytest.approx([2, 5, 5], abs=0.02)
    ask = f"id={file_id('late.mp4')}"
    found = json.loads(sounds.get(f"/api/span?{ask}&q=3000").body)
    assert [found["start"], found["end"]] == pytest.approx([4, 5], abs=0.15)
    decoded, rate = soundfile.read(io.BytesIO(sounds.get(f"/audio?{ask}").body))
    assert len(decoded) / rate == pytest.approx(5, abs=0.02)
    assert not decoded[: int(1.9 * rate)].any()
    assert np.abs(decoded[int(2.1 * rate) :]).max() > 0.25
    picture = matplotlib.image.imread(io.BytesIO(sounds.get(f"/picture?{ask}").body))[:, :, :3].sum(2)
    width = picture.shape[1]
    assert picture[:, : int(0.35 * width)].max() < picture[:, int(0.45 * width) :].max()
    for start, end in ((0, 1), (1, 3), (2.5, 5)):
        assert sounds.get(f"/picture?{ask}&start={start}&end={end}").status == 200


def test_messages_name_files_below_the_folder(served):
    """They held absolute paths."""
    (row,) = served.store().rows_of(file_id("a.wav"))
    path = served.folder / "a.wav"
    for content in (b"no audio", path.read_bytes()[:40]):
        path.write_bytes(content)
        status = path.stat()
        served.store().replace(["a.wav"], [row._replace(size=status.st_size, mtime_ns=status.st_mtime_ns)], [])
        for ask in ("audio", "picture", "api/span"):
            answer = served.get(f"/{ask}?id={file_id('a.wav')}&q=600")
            assert answer.status == 415
            assert "a.wav" in json.loads(answer.body)["error"]
            assert str(served.folder.parent).encode() not in answer.body


def test_a_wav_of_a_coding_that_browsers_do_not_know_becomes_one_that_they_do(sounds, serve):
    soundfile.write(sounds.folder / "x.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 4000), 8000, subtype="ULAW")
    whole = serve().get(f"/audio?id={file_id('x.wav')}").body
    assert soundfile.info(io.BytesIO(whole)).subtype == "PCM_16"


@pytest.mark.parametrize("rate", [8000, 44_100, 96_000])
def test_a_tone_stands_at_its_pitch_and_time_in_the_picture(sounds, serve, rate):
    import matplotlib.image

    path = sounds.tone("x.wav", 1000, 3000, seconds=1, rate=rate)
    body = serve().get(f"/picture?id={file_id('x.wav')}").body
    brightness = matplotlib.image.imread(io.BytesIO(body))[::-1, :, :3].sum(2)  # rows from below
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
    for hz, columns in ((1000, slice(0.1, 0.4)), (3000, slice(0.6, 0.9))):
        width = brightness.shape[1]
        row = brightness[:, int(columns.start * width) : int(columns.stop * width)].mean(1).argmax()
        assert row / len(brightness) == pytest.approx(mel(hz) / mel(rate / 2), abs=0.04)
    assert path.is_file()


@pytest.mark.parametrize("seconds", [2 / 16_000, 0.01, 100])
def test_very_short_and_long_files_have_pictures(sounds, serve, seconds):
    sounds.tone("x.wav", 440, seconds=seconds)
    body = serve().get(f"/picture?id={file_id('x.wav')}&start=0&end={min(seconds, 60)}").body
    assert body.startswith(b"\x89PNG")


def test_stopping_waits_for_answers_and_not_for_connections(sounds):
    sounds.tone("a.wav", 600)
    sounds.update()
    app, begun = search_app(Index.open(sounds.index)), threading.Event()
    sounds.model.embed_text = lambda texts: (
        begun.set(),
        time.sleep(0.3),
        type(sounds.model).embed_text(sounds.model, texts),
    )[2]
    answers = []
    with Server(app) as server:
        serving = threading.Thread(target=server.run)
        serving.start()
        port = server.address[1]
        idle = socket.create_connection(("127.0.0.1", port))
        asking = threading.Thread(target=lambda: answers.append(get(port, "/api/search?q=600")))
        asking.start()
        assert begun.wait(20)
        stopped = time.monotonic()
        server.stop()
        serving.join()
    assert time.monotonic() - stopped < 20  # an idle connection may last 60 s
    asking.join()
    idle.close()
    assert answers[0].status == 200


# -- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_addresses_that_others_reach_are_refused(host):
    with pytest.raises(ValueError, match=r"which others can reach.*ssh -L"):
        Server(None, host)


def test_it_listens_on_loopback_alone(served):
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)} - {"127.0.0.1", "127.0.1.1"}
    for address in (found for found in addresses if ":" not in found):
        with pytest.raises(OSError, match=r"refused|unreachable"):
            socket.create_connection((address, served.port), timeout=2)
    with Server(None, "localhost") as other:
        assert other.address[0] == "127.0.0.1"


def test_a_port_that_is_taken(served):
    with pytest.raises(OSError, match=f"port {served.port} cannot be used .*--port"):
        Server(None, port=served.port)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8420", "127.0.0.1.evil.example", "192.168.1.5", "["])
def test_names_of_other_sites_are_refused(served, host):
    """DNS rebinding: a site's own name made to point here lets its page read the answers."""
    answer = served.get("/api/search?q=300", {"Host": host})
    assert answer.status in (400, 421)
    assert b"hits" not in answer.body


def test_its_own_names_are_not(served):
    for host in ("localhost", f"127.0.0.1:{served.port}", "localhost:1234", "[::1]:8420"):
        assert served.get("/api/index", {"Host": host}).status == 200


def test_no_name_at_all_is_refused(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        connection.sendall(b"GET /api/index HTTP/1.0\r\n\r\n")
        assert b" 421 " in connection.makefile("rb").readline()


@pytest.mark.parametrize("path", ["/api/index", f"/audio?id={file_id('a.wav')}", "/?x"])
def test_other_sites_may_not_ask(served, path):
    for site in ("cross-site", "same-site"):
        assert served.get(path, {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}).status == 403
    assert served.get(path.replace("?x", ""), {"Sec-Fetch-Site": "same-origin"}).status == 200


def test_a_link_from_another_site_opens_the_page(served):
    answer = served.get("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/sounds/a.wav",
        "/a.wav",
        "/../model.ckpt",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/audio/a.wav",
        "/audio?id=../../../etc/passwd",
        "/audio?id=..%2F..%2Fmodel.ckpt",
        "/audio?path=a.wav",
        "/audio?id=a.wav",
        "/audio",
        "/audio?id=0000000000000000",
        "/audio?id=' OR '1'='1",
        "/picture?id=%00",
        "/api/like?id=ffffffffffffffff",
        "/api/span?id=ffffffffffffffff&q=x",
        "/page/script.js",
    ],
)
def test_nothing_is_served_by_path(served, path):
    answer = served.get(path.replace(" ", "%20"))
    assert answer.status == 404
    assert set(json.loads(answer.body)) == {"error"}


def test_an_index_that_names_files_outside_of_its_folder(served):
    secret = served.folder.parent / "secret.wav"
    shutil.copy2(served.folder / "a.wav", secret)
    store = served.store()
    (row,) = store.rows_of(file_id("a.wav"))
    for i, path in enumerate(("../secret.wav", "b/../../secret.wav", str(secret))):
        size, mtime_ns = secret.stat().st_size, secret.stat().st_mtime_ns
        store.replace([], [row._replace(file=f"{i:016x}", path=path, size=size, mtime_ns=mtime_ns)], [])
        assert served.get(f"/audio?id={i:016x}").status == 404


def test_a_file_that_is_no_longer_what_was_indexed_is_not_given(served):
    path, url = served.folder / "a.wav", f"/audio?id={file_id('a.wav')}"
    assert served.get(url).status == 200
    secret = served.folder.parent / "secret.txt"
    secret.write_text("secret")
    path.unlink()
    assert served.get(url).status == 404
    path.symlink_to(secret)
    answer = served.get(url)
    assert (answer.status, b"secret" in answer.body) == (410, False)
    os.utime(path, (1, 1))
    assert served.get(url.replace("audio", "picture")).status == 410


@pytest.mark.parametrize(
    "path",
    [
        "/api/search",
        "/api/search?q=",
        "/api/search?q=%20",
        "/api/search?q=" + "x" * 501,
        "/api/search?q=300&top=0",
        "/api/search?q=300&top=1e9",
        "/api/search?q=300&top=nan",
        "/api/search?q=300&top=x",
        f"/picture?id={file_id('a.wav')}&start=-1",
        f"/picture?id={file_id('a.wav')}&end=1000",
    ],
)
def test_questions_that_make_no_sense(served, path):
    assert served.get(path).status == 400


def test_other_methods_and_broken_requests_do_not_stop_it(served):
    assert served.get("/api/index", method="POST").status == 405
    for junk in (b"\x00\xff\r\n\r\n", b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(100)
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:  # goes away in the middle
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(f"GET /audio?id={file_id('a.wav')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert served.get("/api/index").status == 200


def test_long_headers_and_bodies_are_not_kept(served):
    head = "GET /api/index HTTP/1.1\r\nHost: localhost\r\n"
    for rest, status in (
        ("X: " + "x" * 200_000 + "\r\n\r\n", b" 400 "),
        ("Content-Length: 1000000000\r\n\r\n", b" 200 "),
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall((head + rest).encode())
            assert status in connection.makefile("rb").readline()


def test_what_goes_wrong_inside_is_told_in_the_terminal_and_not_in_the_page(served, monkeypatch, capsys):
    def broken(texts):
        raise ValueError("secret details")

    monkeypatch.setattr(served.model, "embed_text", broken)
    answer = served.get("/api/search?q=300")
    assert (answer.status, b"secret" in answer.body) == (500, False)
    until = time.monotonic() + 5
    printed = ""
    while "secret details" not in printed and time.monotonic() < until:
        printed += capsys.readouterr().err
        time.sleep(0.01)
    assert "ValueError: secret details" in printed


def test_every_answer_keeps_other_sites_out(served):
    for path in ("/", "/api/index", "/nothing", f"/audio?id={file_id('a.wav')}"):
        answer = served.get(path)
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.getheader("Access-Control-Allow-Origin") is None


def test_the_page_is_one_document_that_may_load_nothing(served):
    answer = served.get("/")
    policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = answer.body.decode()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "innerHTML" not in page
    assert Path(HOSTILE).name not in page


def test_where_in_a_window_the_query_is_heard(sounds, serve):
    sounds.tone("x.wav", 500, 4000, 500, seconds=2)
    found = json.loads(serve().get(f"/api/span?id={file_id('x.wav')}&q=4000").body)
    assert (found["start"], found["end"]) == (pytest.approx(2, abs=0.15), pytest.approx(4, abs=0.15))
    third = len(found["similarity"]) // 3
    assert min(found["similarity"][third + 4 : 2 * third - 4]) > 0.5 > max(found["similarity"][: third - 4])


def no_step(backend):
    raise ValueError("the audio encoder does not say what time its patches stand for")


@pytest.mark.parametrize("lacks", ["dense features", "step"])
def test_a_model_that_cannot_tell_when_marks_the_window(sounds, serve, monkeypatch, lacks):
    sounds.tone("x.wav", 500, 4000, 500, seconds=5)
    serve()
    if lacks == "step":
        monkeypatch.setattr(type(sounds.model.backend), "frame_samples", property(no_step))
    else:
        monkeypatch.delattr(type(sounds.model.backend), "encode_frames")
    found = sounds.get(f"/api/span?id={file_id('x.wav')}&q=4000&at=5")
    assert json.loads(found.body) == {"start": 5.0, "end": 15.0, "similarity": []}


def test_more_hits_and_thresholds(served):
    whole = json.loads(served.get("/api/search?q=600&top=3").body)
    assert (len(whole["hits"]), whole["more"], whole["best"]) == (3, False, None)
    first, rest = (json.loads(served.get(f"/api/search?q=600&top=2&offset={at}").body) for at in (0, 2))
    assert (first["more"], rest["more"]) == (True, False)
    assert first["hits"] + rest["hits"] == whole["hits"]
    served.model.calibration = Calibration("sigmoid", 20.0, -10.0)
    probable = json.loads(served.get("/api/search?q=600&top=3&threshold=0.5").body)
    assert [hit["path"] for hit in probable["hits"]] == ["a.wav"]
    assert probable["best"] == probable["hits"][0]["probability"] > 0.9
    none = json.loads(served.get("/api/search?q=7777&threshold=0.5").body)
    assert (none["hits"], none["more"]) == ([], False)
    assert 0 < none["best"] < 0.5
    assert served.get("/api/search?q=600&threshold=2").status == 400
    assert served.get("/api/search?q=600&offset=5000").status == 400


def test_an_index_that_is_rebuilt_with_other_dimensions_and_int8_while_it_is_served(served):
    served.model.backend.leading_dims = (40, 20)
    assert json.loads(served.get("/api/search?q=5000").body)["hits"][0]["path"] == HOSTILE
    served.update({"dim": 20, "dtype": "int8"}, anew=True)
    hits = json.loads(served.get("/api/search?q=600").body)["hits"]
    assert (hits[0]["path"], len(hits)) == ("a.wav", 3)
