"""The loader on shards elsewhere beside the same shards on disk: clips and seconds of audio per second.

    python benchmarks/remote.py --workers 0 2

Clips of 5 s at 16 kHz are packed as FLAC and served by a web server and by a server that speaks S3, both on this
machine, in processes of their own. "fetched" begins with an empty cache, "kept" with all shards in it. With `--rate`
the web server sends at most so many MB per second to each connection, as a network would.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
import torch
from results import keep

RATE = 16000
SECONDS = 5.0
KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
ABOUT = """`python benchmarks/remote.py --workers 0 2 --update`

An epoch of the loader over the same FLAC shards, in turns; medians of the rounds. The servers run on the same cores, so
"fetched" has their work in it too. "kept" is an epoch with all shards in the cache: what reading costs beside a
folder on disk. On a machine that does other things too, the processor time, known without workers alone, is steadier
than the rate; it has no work of the servers in it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000, help="clips of 5 s (default: %(default)s)")
    parser.add_argument("--shard", type=int, default=100, help="clips per shard (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the loader (default: 0 2)")
    parser.add_argument("--rate", type=float, help="MB per second and connection that the web server sends at most")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # this program as a web server
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--update", action="store_true", help="replace this benchmark's section of RESULTS.md")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.port, arguments.rate)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(KEYS, SLAP_REMOTE_CACHE=str(folder / "cache"))
        shards = packed(folder, arguments.clips, arguments.shard)
        with web_server(folder, arguments.rate) as web, s3_server(shards) as bucket:
            places = {"disk": str(shards), "http": f"{web}/shards", "s3": f"{bucket}/shards"}
            rows = [row for workers in arguments.workers for row in measured(places, workers, arguments.rounds)]
    keep("remote", "Shards elsewhere beside shards on disk", ABOUT, rows, arguments.out, arguments.update)


def packed(folder: Path, clips: int, size: int) -> Path:
    from slap.datamodules import Clip, write_manifest
    from slap.datamodules.shar.write import pack

    rng = np.random.default_rng(0)
    made = []
    for number in range(clips):
        file = folder / "wav" / f"{number}.wav"
        file.parent.mkdir(exist_ok=True)
        walk = np.cumsum(rng.normal(size=round(SECONDS * RATE)))
        soundfile.write(file, 0.9 * walk / np.abs(walk).max(), RATE)
        made.append(Clip(str(number), file, [f"sound {number}"]))
    pack(write_manifest(folder / "m.jsonl", made), folder / "shards", shard_size=size, workers=0)
    return folder / "shards"


def measured(places: dict[str, str], workers: int, rounds: int) -> list[dict[str, Any]]:
    """Measure all places in turns."""
    times: dict[tuple[str, str], list[float]] = {}
    busy: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for place, manifest in places.items():
            shutil.rmtree(os.environ["SLAP_REMOTE_CACHE"], ignore_errors=True)
            for cache in ("",) if place == "disk" else ("fetched", "kept"):
                begun = time.process_time()
                seconds, elapsed = epoch(manifest, workers)
                times.setdefault((place, cache), []).append(elapsed)
                busy.setdefault((place, cache), []).append(time.process_time() - begun)
    disk = statistics.median(times["disk", ""])
    size = sum(path.stat().st_size for path in Path(places["disk"]).iterdir()) / 1e6
    rows = []
    clips = round(seconds / SECONDS)
    for (place, cache), each in times.items():
        median = statistics.median(each)
        rows.append(
            {
                "shards": place,
                "cache": cache,
                "workers": workers,
                "clips/s": clips / median,
                "audio s/s": seconds / median,
                "MB/s": size / median,
                "of the rate on disk, %": 100 * disk / median,
                "processor time, ms per clip": "" if workers else 1e3 * statistics.median(busy[place, cache]) / clips,
            }
        )
    return rows


def epoch(manifest: str, workers: int) -> tuple[float, float]:
    """Return seconds of audio, and the time from an open manifest to the last batch."""
    from slap.core.packed import Packed
    from slap.datamodules import AudioTextData

    data = AudioTextData(
        manifest, max_duration=100.0, num_workers=workers, remote_roots=() if manifest[0] == "/" else manifest
    )
    data.connect(RATE, lambda captions: Packed.pack([torch.tensor(list(text.encode())) for text in captions]))
    loader = data.train_dataloader()
    started = time.perf_counter()
    seconds = sum(batch.audio.layout.total for batch in loader) / RATE
    elapsed = time.perf_counter() - started
    loader.close()
    return seconds, elapsed


@contextmanager
def web_server(folder: Path, rate: float | None) -> Iterator[str]:
    port = free_port()
    limit = [] if rate is None else ["--rate", str(rate)]
    with running([__file__, "--serve", str(folder), "--port", str(port), *limit], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3_server(shards: Path) -> Iterator[str]:
    import boto3

    port = free_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    with running(["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        client = boto3.client("s3")
        client.create_bucket(Bucket="sounds")
        for path in shards.iterdir():
            client.upload_file(str(path), "sounds", f"shards/{path.name}")
        yield "s3://sounds"


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """Run a server until the block ends."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def serve(folder: Path, port: int, rate: float | None) -> None:
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:
            while piece := source.read(1 << 18):
                outputfile.write(piece)
                if rate:
                    time.sleep(len(piece) / rate / 1e6)

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
