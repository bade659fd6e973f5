"""Two decoders, one of which is sure: whole files, places in them, and faults that name the file."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from encode import decibels, decode, encode
from slap.audio import claims, decoders, ffmpeg, sndfile
from slap.audio.reader import AudioError, AudioFile, blocks, header, measure
from slap.audio.sndfile import SndFile

RATE = 16_000


def chirp(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, len(time))
    return np.outer(0.4 * np.sin(2 * np.pi * (300 * time + 100 * time**2)) + noise, 0.5 ** np.arange(channels))


def channels(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block.T)


def whole(source: Path | io.BytesIO) -> tuple[np.ndarray, str]:
    """Return the samples of a file, (n, C), at its own rate, and what is missing."""
    with AudioFile(source) as file:
        samples = file.read(file.header.rate, mix=channels)
        return samples.reshape(-1, samples.shape[-1]).T, file.note


FILES: dict[str, Callable[[Path], None]] = {
    "pcm.wav": lambda path: soundfile.write(path, chirp(6, channels=2), RATE),
    "gsm.wav": lambda path: soundfile.write(path, chirp(6, 8000), 8000, subtype="GSM610"),
    "pcm.flac": lambda path: soundfile.write(path, chirp(6), RATE),
    "vorbis.ogg": lambda path: soundfile.write(path, chirp(6, 44_100), 44_100),
    "encoder_of_16_khz.opus": lambda path: soundfile.write(path, chirp(6), RATE, format="OGG", subtype="OPUS"),
    "constant.mp3": lambda path: encode(path, chirp(6, 44_100), 44_100, "libmp3lame", b="128k"),
    "low.mp3": lambda path: encode(path, chirp(6, 44_100), 44_100, "libmp3lame", b="32k"),
    "variable.mp3": lambda path: encode(path, chirp(6, 24_000), 24_000, "libmp3lame", q="5"),
    "aac.m4a": lambda path: encode(path, chirp(6, 44_100), 44_100, "aac", b="128k", aac_pns="0"),
    "aac.mkv": lambda path: encode(path, chirp(6, 44_100), 44_100, "aac", b="128k", aac_pns="0"),
    "aac.aac": lambda path: encode(path, chirp(6), RATE, "aac", b="96k", aac_pns="0"),
    "opus.webm": lambda path: encode(path, chirp(6, 48_000), 48_000, "libopus"),
    "alac.m4a": lambda path: encode(path, chirp(6, channels=2), RATE, "alac"),
    "flac.mkv": lambda path: encode(path, chirp(6), RATE, "flac"),
    "mp2.mp2": lambda path: encode(path, chirp(6, 44_100), 44_100, "mp2"),
    "ac3.mkv": lambda path: encode(path, chirp(6, 48_000, 2), 48_000, "ac3"),
    "wma.wma": lambda path: encode(path, chirp(6, 44_100), 44_100, "wmav2", b="128k"),
    "wavpack.wv": lambda path: encode(path, chirp(6), RATE, "wavpack"),
    "tta.tta": lambda path: encode(path, chirp(6), RATE, "tta"),
    "pcm.avi": lambda path: encode(path, chirp(6), RATE, "pcm_s16le"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_segment_is_that_slice_of_the_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places beyond two seconds are found by counting packets, as those beyond ten are."""
    path = tmp_path / name
    FILES[name](path)
    samples, note = whole(path)
    assert not note
    expected, rate = decode(path)
    if rate == header(path).rate:
        assert len(samples) == len(expected)
        assert decibels(expected, samples) >= 60
    assert measure(path).frames == len(samples)
    for module, limit in ((ffmpeg, "NEAR"), (sndfile, "FAR")):
        monkeypatch.setattr(module, limit, 2)
    rate = header(path).rate
    rng = np.random.default_rng(1)
    places = [(0.0, 1.0), (3.0, 1.0), (5.5, 0.4), *zip(rng.uniform(0, 5, 6), rng.uniform(0.01, 0.9, 6), strict=True)]
    with AudioFile(path) as again:
        for start, duration in places:
            first = round(start * rate)
            with AudioFile(path) as fresh:
                for file in (again, fresh):
                    part = file.read(rate, first / rate, duration, mix=channels).reshape(samples.shape[1], -1).T
                    assert decibels(samples[first : first + len(part)], part) >= 60, (start, duration)


def test_a_block_of_an_mp3_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    """soundfile seeks after each read, whereupon libmpg123 lacked the bits that earlier frames hold."""
    path = tmp_path / "a.mp3"
    encode(path, chirp(20, 44_100), 44_100, "libmp3lame", b="32k")
    with AudioFile(path) as file:
        pieces = np.concatenate(list(file.blocks(44_100, seconds=0.37)))
    expected, _ = decode(path)
    assert decibels(expected[:, 0], pieces) >= 60


def joined_mp3(path: Path) -> float:
    encode(path, chirp(3), RATE, "libmp3lame", b="48k")
    path.write_bytes(path.read_bytes() * 2)
    return 6.0


def mp3_without_a_count(path: Path) -> float:
    encode(path, chirp(5, 24_000), 24_000, "libmp3lame", q="7", write_xing="0")
    return 5.0


def chained_ogg(path: Path) -> float:
    parts = []
    for seconds in (2, 3):
        memory = io.BytesIO()
        soundfile.write(memory, chirp(seconds), RATE, format="OGG")
        parts.append(memory.getvalue())
    path.write_bytes(b"".join(parts))
    return 5.0


def twice_ogg(path: Path) -> float:
    soundfile.write(path, chirp(2), RATE, format="OGG")
    path.write_bytes(path.read_bytes() * 2)
    return 4.0


def twice_flac(path: Path) -> float:
    soundfile.write(path, chirp(2), RATE, format="FLAC")
    path.write_bytes(path.read_bytes() * 2)
    return 4.0


def piped_wav(path: Path) -> float:
    soundfile.write(path, chirp(2), RATE)
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + bytes(4) + raw[8:40] + bytes(4) + raw[44:])
    return 2.0


def endless_wav(path: Path) -> float:
    piped_wav(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:40] + b"\xff" * 4 + raw[44:])
    return 2.0


@pytest.mark.parametrize(
    "make", [joined_mp3, mp3_without_a_count, chained_ogg, twice_ogg, twice_flac, piped_wav, endless_wav]
)
def test_a_header_that_does_not_say_how_long_it_is(make: Callable[[Path], float], tmp_path: Path) -> None:
    path = tmp_path / f"a.{make.__name__.split('_')[-1] if 'mp3' not in make.__name__ else 'mp3'}"
    seconds = make(path)
    samples, note = whole(path)
    assert not note
    assert len(samples) / header(path).rate == pytest.approx(seconds, abs=0.15)
    assert decibels(decode(path)[0], samples) >= 60
    assert measure(path).frames == len(samples)
    assert np.array_equal(whole(io.BytesIO(path.read_bytes()))[0], samples)


@pytest.mark.parametrize("frames", [(16_000, 16_000), (16_000, 16_000, 16_000), (16_000, 5000, 30_000)])
def test_different_files_of_flac_that_were_joined_are_read_whole(frames: tuple[int, ...], tmp_path: Path) -> None:
    """FFmpeg took them for one file, whose frames then have wrong numbers, and lost one of them: 27,904 of 32,000."""
    rng = np.random.default_rng(0)
    parts, raw = [rng.integers(-(1 << 14), 1 << 14, count).astype(np.int16) for count in frames], b""
    for part in parts:
        memory = io.BytesIO()
        soundfile.write(memory, part, 16_000, format="FLAC")
        raw += memory.getvalue()
    (tmp_path / "a.flac").write_bytes(raw)
    samples, note = whole(tmp_path / "a.flac")
    assert np.array_equal(samples[:, 0], np.concatenate(parts) / np.float32(1 << 15))
    assert not note
    assert measure(tmp_path / "a.flac").frames == sum(frames)
    with AudioFile(tmp_path / "a.flac") as file:
        segment = file.read(16_000, 0.9, 0.3)
    assert np.array_equal(segment, samples[14_400:19_200, 0])
    assert np.array_equal(whole(io.BytesIO(raw))[0], samples)


@pytest.mark.parametrize("ending", ["flac", "ogg"])
def test_large_files_are_looked_at_in_some_places_for_others_that_were_joined(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equal length, and of one stream, so that the last frame or page is that of the first file."""
    monkeypatch.setattr(claims, "LOOKED_THROUGH", 1000)
    sound = np.random.default_rng(0).normal(0, 0.1, 10 * 44_100).clip(-1, 1)
    with soundfile.SoundFile(tmp_path / f"a.{ending}", "w", 44_100, 1) as file:
        for start in range(0, len(sound), 44_100):
            file.write(sound[start : start + 44_100])
    raw = (tmp_path / f"a.{ending}").read_bytes()
    once = header(tmp_path / f"a.{ending}")
    assert once.exact  # by the first decoder
    for copies in (2, 3, 7):
        (tmp_path / f"b.{ending}").write_bytes(raw * copies)
        assert not header(tmp_path / f"b.{ending}").exact
        samples, note = whole(tmp_path / f"b.{ending}")
        assert len(samples) == pytest.approx(copies * once.frames, abs=1000)
        assert not note


def test_damage_within_a_file_is_silence_and_its_length_is_what_is_read(tmp_path: Path) -> None:
    """The packets are counted, and those that cannot be decoded have a time too: what follows keeps its place."""
    path = tmp_path / "a.m4a"
    encode(path, chirp(20, 44_100), 44_100, "aac")
    complete, _ = whole(path)
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 3000] = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    path.write_bytes(raw)
    samples, note = whole(path)
    assert measure(path).frames == len(samples) == len(complete)
    assert re.fullmatch(r"\d+ damaged packets were passed over", note)
    assert decibels(complete[-5 * 44_100 :], samples[-5 * 44_100 :]) > 40
    assert np.abs(samples[9 * 44_100 : 12 * 44_100]).reshape(-1, 441).max(1).min() == 0


def test_pages_of_ogg_that_are_lost_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    encode(path, chirp(20, 48_000), 48_000, "libopus")
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 3000] = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    path.write_bytes(raw)
    samples, note = whole(path)
    assert len(samples) < 19.5 * 48_000
    assert re.search(r"\d\.\d\d s within it are missing", note)


def test_channels_and_rates_that_change_within_a_file_become_those_of_the_first(tmp_path: Path) -> None:
    """FFmpeg 8 does not read Ogg beyond such a change: that is told."""
    for ending, seconds, note in (("mp3", 4.0, ""), ("ogg", 2.0, "its stream breaks off after 2.00 s")):
        parts = []
        for rate, count in ((RATE, 2), (24_000, 1)):
            memory = io.BytesIO()
            soundfile.write(memory, chirp(2, rate, count), rate, format=ending.upper())
            parts.append(memory.getvalue())
        (tmp_path / f"a.{ending}").write_bytes(b"".join(parts))
        samples, found = whole(tmp_path / f"a.{ending}")
        assert samples.shape[1] == 2
        assert len(samples) / RATE == pytest.approx(seconds, abs=0.15)
        assert found == note


CUT = ("pcm.wav", "pcm.flac", "vorbis.ogg", "constant.mp3", "aac.aac", "opus.webm", "aac.mkv")


@pytest.mark.parametrize("name", CUT)
def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    complete, _ = whole(tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: len(raw) // 2])
    samples, note = whole(tmp_path / name)
    assert 0.2 < len(samples) / len(complete) < 0.6
    assert decibels(complete[: len(samples) - 3000], samples) > 40
    seconds = len(samples) / header(tmp_path / name).rate
    wanted = {"aac.aac": "1 damaged packet", "vorbis.ogg": f"its stream breaks off after {seconds:.2f} s"}
    declared = f"it was cut short: {seconds:.2f} of the 6.0"
    assert note.startswith(wanted.get(name, declared))
    assert measure(tmp_path / name).note == note
    with AudioFile(tmp_path / name) as file, pytest.raises(AudioError, match=r"cut short|does not lie in"):
        file.read(RATE, 0.0, 6.0)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_that_begins_later_than_the_pictures(ending: str, tmp_path: Path) -> None:
    for late in (0.0, 2.0):
        encode(tmp_path / f"a.{ending}", chirp(1, 44_100), 44_100, "aac", late=late, video=True)
        with AudioFile(tmp_path / f"a.{ending}") as file:
            assert file.begins == pytest.approx(late, abs=0.05)
            assert file.read(RATE).shape[-1] == pytest.approx(RATE, abs=RATE // 10)


# -- faults -----------------------------------------------------------------------------------------------------------


def raises(error: BaseException) -> Callable[..., None]:
    def broken(*_: object, **__: object) -> None:
        raise error

    return broken


@pytest.mark.parametrize(
    ("target", "method"),
    [(soundfile.SoundFile, "__init__"), (soundfile.SoundFile, "buffer_read_into"), (SndFile, "seek")],
)
def test_whatever_a_decoder_raises_names_the_file(
    target: type, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(1), RATE)
    monkeypatch.setattr(target, method, raises(ZeroDivisionError("division by zero")))
    with pytest.raises(AudioError, match=r"a\.wav cannot .*: division by zero$"):
        list(blocks(tmp_path / "a.wav", RATE, start=0.5))
    for passed in (MemoryError, KeyboardInterrupt):
        monkeypatch.setattr(target, method, raises(passed()))
        with pytest.raises(passed):
            list(blocks(tmp_path / "a.wav", RATE, start=0.5))


def test_ffmpeg_raises_errors_without_the_name_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.wav").write_bytes(b"no sound")
    monkeypatch.setattr(av, "open", raises(PermissionError(13, "not allowed")))
    with pytest.raises(AudioError, match=r"b\.wav cannot be read as audio: not allowed$"):
        header(tmp_path / "b.wav")


@pytest.mark.parametrize("content", ["no audio", "#EXTM3U\n#EXTINF:1,\na.wav\n", "ffconcat version 1.0\nfile a.wav\n"])
@pytest.mark.parametrize("name", ["a.webm", "b.m3u8", "c.mp3", "d.wav"])
def test_text_is_no_audio(name: str, content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(1), RATE)
    (tmp_path / name).write_text(content)
    with pytest.raises(AudioError) as caught:
        header(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name} cannot be read as audio: no format of sound is found in it")
    assert capfd.readouterr().err == ""


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "tags.mp3").write_bytes(b"ID3\4\0\0\0\0\1\0" + bytes(128))
    for name, reason, message in (
        ("loop.wav", "unreadable", "loop.wav cannot be opened: it is a link to itself"),
        ("x" * 5000, "unreadable", "its path of more than 200 characters is too long"),
        ("absent.wav", "absent", "there is no file"),
        ("empty.wav", "empty", "empty.wav is empty: it has 0 bytes"),
        ("tags.mp3", "unreadable", "tags.mp3 cannot be read as audio: no format of sound is found in it"),
    ):
        with pytest.raises(AudioError, match=message) as caught:
            header(tmp_path / name)
        assert caught.value.reason == reason
        assert len(str(caught.value)) < 500


def test_files_that_are_open_stay_open(tmp_path: Path) -> None:
    for name in ("pcm.wav", "aac.m4a", "low.mp3"):
        FILES[name](tmp_path / name)
        with (tmp_path / name).open("rb") as open_file:
            open_file.seek(99)
            with AudioFile(open_file) as file:
                samples = file.read(RATE)
                part = file.read(RATE, 0.0, 2.0)
            assert not open_file.closed
        with AudioFile(tmp_path / name) as file:
            assert np.array_equal(samples, file.read(RATE))
            assert np.array_equal(part, file.read(RATE, 0.0, 2.0))


def test_a_file_that_was_measured_can_be_read(tmp_path: Path) -> None:
    FILES["aac.m4a"](tmp_path / "aac.m4a")
    with AudioFile(tmp_path / "aac.m4a") as file:
        assert not file.header.exact
        file.measure()
        assert file.header.exact
        assert file.read(file.header.rate).shape == (file.header.frames,)


def test_a_process_that_reads_wav_imports_no_ffmpeg(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(1), RATE)
    code = f"import sys; from slap.audio.decoders import opened; opened({str(tmp_path / 'a.wav')!r}).read(100)\n"
    code += "print('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_ffmpeg_may_open_no_format_that_names_other_files() -> None:
    names = set(av.formats_available)
    assert set(ffmpeg.FORMATS) <= {part for name in names for part in name.split(",")}
    follow = {"concat", "hls", "dash", "image2", "image2pipe", "sdp", "rtsp", "srt", "webvtt", "lavfi", "ffmetadata"}
    assert not follow & set(ffmpeg.FORMATS)


def test_a_file_that_is_changed_is_examined_again(tmp_path, monkeypatch):
    path, once = tmp_path / "a.flac", chirp(1)
    soundfile.write(path, once, RATE)
    one = path.read_bytes()
    monkeypatch.setattr(decoders, "SETTLED", -1)
    looked = []
    monkeypatch.setattr(decoders, "examined", lambda *asked: looked.append(1) or claims.examined(*asked))
    assert [header(path).frames for _ in range(3)] == [RATE] * 3
    assert len(looked) == 1
    path.write_bytes(one * 2)
    assert measure(path).frames > RATE
    assert len(looked) == 2


def test_a_file_of_a_moment_ago_is_examined_each_time(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    looked = []
    monkeypatch.setattr(decoders, "examined", lambda *asked: looked.append(1) or claims.examined(*asked))
    soundfile.write(path, chirp(1), RATE)
    for _ in range(2):
        header(path)
    assert len(looked) == 2


def test_a_file_of_which_nothing_can_be_decoded_is_empty_with_and_without_a_duration(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, chirp(0.1), RATE)
    content = bytearray(path.read_bytes())
    first = content.index(b"\xff\xf8")
    content[first + 7] ^= 0xFF  # the sum of the header of its one frame
    path.write_bytes(content)
    for duration in (None, 0.1):
        with AudioFile(path) as file, pytest.raises(AudioError) as error:
            file.read(RATE, duration=duration)
        assert error.value.reason == "empty"
