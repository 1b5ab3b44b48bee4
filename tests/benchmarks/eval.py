"""`make bench-eval`: counting, the reference network's forward pass, and evaluation by actors.

Counting is compared with the official program of Cityscapes, in an environment of its own, on maps
of rendered streets; see `eval_parts/maps.py` for how predictions are made up. What takes time but
does not change from call to call (rendering) is kept in runs/bench/eval-data.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.eval_parts.actors import measure_actors
from tests.benchmarks.eval_parts.counting import measure_counting
from tests.benchmarks.eval_parts.forward import measure_forward
from tests.benchmarks.eval_parts.maps import Disturbance, write_pairs
from tests.record import BENCHES, at_most, goal, write_record
from uda.data.streets import DOMAINS, render

DATA = BENCHES / "eval-data"
PARTS = ("counting", "actors", "forward")


def main() -> None:
    arguments = _arguments()
    measures = {"counting": _counting, "forward": _forward, "actors": _actors}
    figures: dict[str, Any] = {}
    kept = []
    for part in arguments.only:
        file = DATA / f"{part}.json"
        if arguments.keep and file.exists():
            figures[part] = json.loads(file.read_text())
            kept.append(part)
            continue
        figures[part] = measures[part](arguments)
        DATA.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures[part], indent=2))
    goals = {}
    if found := figures.get("counting"):
        goals["counting: official program / ours"] = goal(found["official_over_ours"], 4)
        goals["whole evaluation / decoding its files"] = at_most(found["whole_over_decoding"], 1.5)
    if found := figures.get("actors"):
        goals["images/s, two actors / one"] = goal(found["scaling"], 1.6)
    for name, met in goals.items():
        print(f"{'met   ' if met['met'] else 'MISSED'} {name}: {met['value']} ({met['goal']})")
    if set(figures) == set(measures):
        extra = ' ARGS="--compiled CHECKOUT"' if arguments.compiled else ""
        figures = {"size": f"{arguments.size[1]}x{arguments.size[0]}", "kept": kept, **figures}
        write_record(BENCHES / "eval.json", f"make bench-eval{extra}", figures, goals)


def _counting(arguments: argparse.Namespace) -> dict[str, Any]:
    height, width = arguments.size
    how = Disturbance()
    pairs = write_pairs(DATA / f"pairs-{width}x{height}", arguments.pairs, height, width, how)
    return {
        "official": "cityscapesScripts 2.3.0",
        "pairs": pairs.count,
        "predictions": "labels with moved boundaries, patches and single pixels of other classes",
        "disturbance": asdict(how),
        "share_differing": pairs.share_differing,
        "objects_per_image": pairs.objects,
        "rounds": arguments.rounds,
        **measure_counting(pairs, arguments.rounds, arguments.compiled),
    }


def _forward(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds, repeats = arguments.forward_rounds, arguments.repeats
    image = _image(*arguments.size)
    return {
        "network": "DeepLabV3+ of resnet101, output stride 16, random weights",
        "rounds": rounds,
        "repeats": repeats,
        "by_threads": measure_forward(image, rounds, repeats, arguments.compile_limit_s),
    }


def _actors(arguments: argparse.Namespace) -> dict[str, Any]:
    return measure_actors(DATA, arguments.scenes, arguments.times, arguments.actor_rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="writes no record")
    parser.add_argument(
        "--keep", action="store_true", help="do not repeat parts that an interrupted bench has done"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7, help="of counting")
    parser.add_argument(
        "--compiled",
        type=Path,
        help="a checkout of github.com/mcordts/cityscapesScripts in which "
        "`CYTHONIZE_EVAL= python setup.py build_ext --inplace` was run, to be measured too "
        "(what PyPI has lacks the source of the extension)",
    )
    parser.add_argument("--forward-rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2, help="of the forward pass in a round")
    parser.add_argument("--compile-limit-s", type=float, default=240)
    parser.add_argument("--scenes", type=int, default=64, help="for the actors")
    parser.add_argument("--times", type=int, default=3, help="that they see each scene in a turn")
    parser.add_argument("--actor-rounds", type=int, default=4)
    return parser.parse_args()


def _image(height: int, width: int) -> Path:
    """A rendered scene as .npy."""
    file = DATA / f"image-{width}x{height}.npy"
    if not file.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        image, _ = render(DOMAINS["camera"], 0, 0, height, width)
        np.save(file, image)
    return file


if __name__ == "__main__":
    main()
