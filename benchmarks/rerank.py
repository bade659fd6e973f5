"""The gain of re-ranking by the caption decoder: where each scene stands among all, found by its own caption.

    python benchmarks/rerank.py runs/demo/best.ckpt runs/demo/corpus/test.jsonl --every 3

Queries are the captions of the clips with questions (held-out scenes), the gallery is all clips of the manifest, as
`slap search --rerank 50` does it. A clip is right if it has the query's caption. Intervals are of the paired difference
over the scenes' origins (95 %, bootstrap).

n clips, Q queries, C candidates.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import slap
from slap.core.packed import Packed
from slap.datamodules.manifests.read import read_manifest
from slap.inference.network_backend import NetworkBackend
from slap.metrics.bootstrap import units_of
from slap.metrics.paired import Answers
from slap.search.rerank import combined

BATCH = 32


def dense_of(backend: NetworkBackend, clips: list[Tensor]) -> list[Tensor]:
    """Encode clips once; their dense features."""
    found: list[Tensor] = []
    for start in range(0, len(clips), BATCH):
        found += backend._dense(clips[start : start + BATCH]).unpack()
    return found


@torch.no_grad()
def likelihoods(backend: NetworkBackend, dense: list[Tensor], caption: str) -> Tensor:
    """Mean log-likelihood of a caption for each of C clips, (C,)."""
    writer = backend.network.objectives["captioning"]
    return writer.log_likelihood(Packed.pack(dense), backend.network.text.tokenize([caption] * len(dense)))  # type: ignore[operator, no-any-return]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--candidates", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="take every Nth scene as a query (default: %(default)s)")
    arguments = parser.parse_args()
    model = slap.load(arguments.model, device="cpu")
    assert isinstance(model.backend, NetworkBackend)
    cuts = list(read_manifest(arguments.manifest))
    captions = [cut.supervisions[0].text for cut in cuts]
    clips = [torch.from_numpy(cut.resample(model.sample_rate).load_audio()[0]) for cut in cuts]
    with torch.no_grad():
        dense = dense_of(model.backend, clips)
    audio = model.embed_audio(clips)
    scenes = [row for row, cut in enumerate(cuts) if (cut.custom or {}).get("choices")][:: arguments.every]
    texts = model.embed_text([captions[row] for row in scenes])
    places: dict[str, list[int]] = {"cosine": [], "likelihood": [], "both": []}
    for row, text in zip(scenes, texts, strict=True):
        cosines = audio @ text
        best = cosines.argsort(descending=True)[: arguments.candidates]
        likely = likelihoods(model.backend, [dense[one] for one in best.tolist()], captions[row])
        orders = {"cosine": cosines[best], "likelihood": likely, "both": combined(cosines[best], likely)}
        for name, values in orders.items():
            order = best[values.argsort(descending=True, stable=True)].tolist()
            place = next((at for at, one in enumerate(order) if captions[one] == captions[row]), len(cuts))
            places[name].append(place)
    origins = [str(sorted((cuts[row].custom or {}).get("origin", {}).values())) for row in scenes]
    unit = units_of(origins, torch.arange(len(scenes)))
    for k in (1, 5, 10):
        answers = {name: Answers((torch.tensor(at) < k).double(), unit) for name, at in places.items()}
        for name, one in answers.items():
            change = answers["cosine"].change_to(one)
            print(
                f"R@{k:<3} {name:10} {100 * float(one.values.mean()):5.1f} %   change {change.value:+5.1f} points "
                f"({change.low:+.1f} to {change.high:+.1f}), {len(scenes)} queries, {len(cuts)} clips"
            )


if __name__ == "__main__":
    main()
