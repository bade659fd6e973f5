"""The stream of windows: decoded ahead in threads, in order, bounded, each file opened once, the same to the bit."""

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from slap.audio.reader import AudioError, read
from slap.audio.sources import AudioStream, LazyAudio
from slap.core.windows import hop_of, windows
from slap.inference import stream
from slap.inference.embedding import joined
from slap.inference.model import Model
from slap.inference.network_backend import NetworkBackend
from slap.inference.read_ahead import read_ahead
from slap.inference.stream import WindowJob, in_order, results, run
from slap.testing.tiny import tiny_model

RATE = 8000  # that of the model


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model(NetworkBackend(tiny_model(), {}, max_seconds=1.0))


@pytest.fixture
def files(tmp_path):
    """Forty files of several rates and formats, some longer than a window."""
    rng, paths = np.random.default_rng(0), []
    for i in range(40):
        rate, ending = (8000, 16_000, 44_100)[i % 3], ("wav", "flac", "ogg")[i % 3]
        paths.append(tmp_path / f"{i}.{ending}")
        soundfile.write(paths[-1], rng.uniform(-0.5, 0.5, int(rate * rng.uniform(0.1, 3))), rate)
    return paths


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that were opened, by libsndfile or by Python."""
    names, by_library, by_python = [], soundfile.SoundFile.__init__, Path.open

    def library(self, file, *arguments, **options):
        names.append(Path(file).name)
        by_library(self, file, *arguments, **options)

    def python(self, *arguments, **options):
        names.append(self.name)
        return by_python(self, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", library)
    monkeypatch.setattr(Path, "open", python)
    return names


def one_after_the_other(model, paths, batch):
    """The embeddings as a single thread computes them, which decodes whole files."""
    sizes = {path: soundfile.info(path) for path in paths}
    order = sorted(range(len(paths)), key=lambda i: -(-sizes[paths[i]].frames * RATE // sizes[paths[i]].samplerate))
    cuts = []
    for i in order:
        audio = read(paths[i], RATE)
        cuts += [(i, span, audio[slice(*span)]) for span in windows(len(audio), RATE, hop_of(RATE))]
    batches, found = [[]], {i: ([], []) for i in order}
    for piece in cuts:
        if batches[-1] and sum(len(other[2]) for other in batches[-1]) + len(piece[2]) > batch:
            batches.append([])
        batches[-1].append(piece)
    for some in batches:
        rows = model.backend.encode_audio([torch.from_numpy(clip) for _, _, clip in some])
        for (i, span, _), row in zip(some, rows, strict=True):
            found[i][0].append(row)
            found[i][1].append(span)
    return torch.stack([joined(*found[i]) for i in range(len(paths))])


@pytest.mark.parametrize("batch_seconds", [0.5, 3.7, 120.0])
def test_threads_change_no_bit(model, files, batch_seconds):
    expected = one_after_the_other(model, files, round(batch_seconds * RATE))
    assert torch.equal(model.embed_audio(files, batch_seconds), expected)


@pytest.mark.parametrize("portion", [7, 512])
def test_each_file_is_opened_once(model, files, opened, monkeypatch, portion):
    monkeypatch.setattr(stream, "PORTION", portion)
    model.embed_audio(files)
    assert sorted(opened) == sorted(path.name for path in files)


def test_few_file_descriptors_are_enough(model, files, opened, monkeypatch):
    expected = model.embed_audio(files)
    monkeypatch.setattr(stream.resource, "getrlimit", lambda what: (20, 20))
    opened.clear()
    assert torch.equal(model.embed_audio(files), expected)
    assert len(opened) == len(files) + 30  # ten are held


def test_files_are_closed_and_threads_end_whatever_happens(model, files):
    def broken(clips):
        raise RuntimeError("out of memory, say")

    before = threading.active_count()
    opened = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else set()
    for compute, result in ((broken, pytest.raises(RuntimeError)), (list, None)):
        job = WindowJob(compute, lambda parts, spans: len(spans), RATE, RATE, RATE)
        if result is not None:
            with result:
                list(run(files, job))
        else:
            items = run(files, job)
            next(items)
            items.close()
        assert threading.active_count() == before
    if opened:
        assert len(list(Path("/proc/self/fd").iterdir())) == len(opened)


def test_a_broken_file_costs_one_item(model, files):
    for path in files[::10]:
        path.write_bytes(path.read_bytes()[:1000] if path.suffix == ".ogg" else b"junk")
    found = {item.name: item for item in model.stream(files)}
    failed = {name for name, item in found.items() if item.error is not None}
    assert failed == {str(path) for path in files[::10]}
    assert all(path.name in str(found[str(path)].error) for path in files[::10])


def test_audio_that_is_decoded_elsewhere_is_decoded_by_one_thread_at_a_time(model):
    busy = threading.Lock()

    def decode(rate):
        assert busy.acquire(blocking=False), "two threads decode"
        time.sleep(0.001)
        busy.release()
        return np.zeros(rate // 10, np.float32)

    rows = model.embed_audio([LazyAudio(str(i), 0.1, decode) for i in range(20)])
    assert rows.shape == (20, model.embedding_dim)
    (item,) = model.stream([LazyAudio("none", 0.1, lambda rate: np.zeros(0, np.float32))])
    assert str(item.error) == "none holds no samples"


def test_little_is_decoded_ahead():
    """While the model computes: a batch that waits, and a window per thread, are decoded at most."""
    decoded, most = [], []

    def blocks(i):
        for _ in range(10):
            decoded.append(i)
            yield np.ones(100, np.float32)

    def compute(clips):
        time.sleep(0.05)
        most.append(len(decoded))
        return [None] * len(clips)

    streams = [AudioStream(str(i), 1000, lambda i=i: blocks(i)) for i in range(8)]
    job = WindowJob(compute, lambda parts, spans: len(parts), 100, 100, 1000, hop=100, readers=3)
    assert results(in_order(run(streams, job))) == [10] * 8
    batches = range(1, len(most) + 1)
    # a window is handed out when the block after it has come
    assert all(count <= 10 * batch + 10 + 2 * 3 + 1 for batch, count in zip(batches, most, strict=True))
    assert most[0] > 10


# -- reading ahead ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("most", [1, 5, 1000])
def test_items_come_in_order_whatever_the_threads_do(threads, most):
    def source(i):
        for j in range(i % 4):
            time.sleep(0.0005 * ((i * 7 + j) % 3))
            yield "x" * (j + 1)

    found = read_ahead([lambda i=i: source(i) for i in range(30)], threads, most, len)
    assert [list(items) for items in found] == [list(source(i)) for i in range(30)]


def test_an_exception_is_raised_where_it_belongs():
    def source(i):
        yield i
        if i == 1:
            raise AudioError("broken")
        yield i

    seen = []
    for items in read_ahead([lambda i=i: source(i) for i in range(3)], 2, 10, lambda item: 1):
        try:
            seen += list(items)
        except AudioError as error:
            seen.append(str(error))
    assert seen == [0, 0, "broken", 2, 2]


def test_ctrl_c_ends_it_at_once():
    """While the consumer waits for a slow source, and other threads wait for room."""

    def slow():
        time.sleep(0.5)
        yield 1

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before, threads = signal.signal(signal.SIGALRM, interrupt), threading.active_count()
    found = read_ahead([slow, *[lambda: iter([1] * 100)] * 4], 3, 10, lambda item: 1)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(map(list, found))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found.close()
    assert time.monotonic() - start < 5
    assert threading.active_count() == threads
