"""`make bench-score`: what a score without labels costs beside a plain evaluation of its images.

The demo's network on rendered streets, one thread. A perturbed view is a pass of its own; all else
that a score is made of (samples, entropies, distributions) must be cheap beside the one plain pass.
Rounds take turns, and the fastest of each counts: other programs only make it slower.
"""

import argparse
import pickle
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from tests.record import BENCHES, at_most, write_record
from uda.data.examples import open_examples
from uda.data.prepare import prepare
from uda.data.rows import ShardRows
from uda.evaluate import evaluate_images
from uda.inference import PLAIN, ready
from uda.models import build_model
from uda.observe import observe_target
from uda.presets import preset
from uda.quality import Statistics

FOLDER = BENCHES / "score"
SIZE = (512, 256)
PARTS = ("plain evaluation", "score without views", "score")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds, seen = _measured(arguments.images, arguments.rounds)
    figures = figures_of(seconds, arguments.images, len(seen.views))
    figures["statistics_mb"] = round(len(pickle.dumps(seen)) / 2**20, 2)
    write_record(
        BENCHES / "score.json",
        "make bench-score",
        {
            "network": "preset demo, random weights",
            "size": f"{SIZE[0]}x{SIZE[1]}",
            "images": arguments.images,
            "rounds": arguments.rounds,
            **figures,
        },
        goals(figures),
    )


def _measured(images: int, rounds: int) -> tuple[dict[str, list[float]], Statistics]:
    """Seconds of every round by part, and what was seen of all images."""
    torch.manual_seed(0)
    model = ready(build_model(preset("demo").model).eval(), PLAIN, "cpu")
    shards = FOLDER / f"shards-{images}"
    prepare("streets", "camera", shards, "val", count=images, size=SIZE)
    examples, rows, every = open_examples(shards), ShardRows(shards, labels=False), range(images)

    def evaluated() -> None:
        assert sum(1 for _ in evaluate_images(model, examples, every)) == images

    def scored() -> Statistics:
        return sum(observe_target(model, rows, every), Statistics())

    def scored_without_views() -> None:
        with patch("uda.observe._views", lambda *_: iter(())):
            assert not scored().views

    works: dict[str, Callable[[], object]] = dict(
        zip(PARTS, (evaluated, scored_without_views, scored), strict=True)
    )
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
        told = ", ".join(f"{name} {each[-1]:.2f} s" for name, each in seconds.items())
        print(f"round {number + 1} of {rounds}: {told}", flush=True)
    return seconds, scored()


def figures_of(seconds: dict[str, list[float]], images: int, views: int) -> dict[str, Any]:
    """Of the fastest rounds."""
    plain, without, whole = (min(seconds[name]) for name in PARTS)
    return {
        "ms_per_image": {name: round(1000 * min(seconds[name]) / images, 1) for name in PARTS},
        "views": views,
        "without_views": round(without / plain, 3),
        "passes_per_view": round((whole - without) / views / plain, 3),
        "whole": round(whole / plain, 3),
    }


def goals(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "score without its views / plain evaluation": at_most(figures["without_views"], 1.5),
        "plain passes per view": at_most(figures["passes_per_view"], 1.0),
        "statistics, MB": at_most(figures["statistics_mb"], 200),
    }


if __name__ == "__main__":
    main()
