"""Images per second of an evaluation by one and by two actors, on the same examples.

Both pools are alive all the time and take turns, so that a busy moment of the machine meets both;
each has looked at the examples once before, its processes are up and its files are read. A turn is
a whole `evaluate`: the actors load the network, look at every image, and the driver adds up.
"""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from uda.checkpoint import CONFIG_FILE, MODEL_FILE, save_weights
from uda.data.examples import Examples, open_examples
from uda.data.prepare import prepare
from uda.models import build_model
from uda.presets import preset
from uda.types import Truth

SIZE = (512, 256)  # width, height
ACTORS = (1, 2)


class Repeated:
    """Examples again and again: rendering so many would take longer than evaluating them."""

    def __init__(self, examples: Examples, times: int) -> None:
        self._examples = examples
        self.keys: Sequence[str] = [
            f"{key}-{number}" for number in range(times) for key in examples.keys
        ]
        self.path, self.class_list = examples.path, examples.class_list

    def __len__(self) -> int:
        return len(self.keys)

    def pair(self, index: int) -> tuple[np.ndarray, Truth]:
        return self._examples.pair(index % len(self._examples))

    def truth(self, index: int) -> Truth:
        return self._examples.truth(index % len(self._examples))


def measure_actors(folder: Path, scenes: int, times: int, rounds: int) -> dict[str, Any]:
    """Images per second by number of actors, and how many times more two do than one."""
    from cluster.evaluate import evaluate
    from cluster.pool import ActorPool
    from cluster.runtime import start_ray

    checkpoint = folder / "network"
    _save_network(checkpoint)
    shards = folder / f"shards-{scenes}"
    prepare("streets", "camera", shards, "val", count=scenes, size=SIZE)
    examples = open_examples(shards)
    many = Repeated(examples, times)
    found: dict[int, list[dict[str, float]]] = {count: [] for count in ACTORS}
    with start_ray(needed_cpus=sum(ACTORS)):
        pools = {count: ActorPool(actors=count) for count in ACTORS}
        for pool in pools.values():
            evaluate(checkpoint, examples, pool=pool, progress=False)
        for number in range(rounds):
            for count, pool in pools.items():
                began, used = time.perf_counter(), _Used.now()
                report = evaluate(checkpoint, many, pool=pool, progress=False)
                seconds, spent = time.perf_counter() - began, _Used.now()
                assert report.images == len(many)
                figures = {
                    "images_per_s": len(many) / seconds,
                    "cpu_ms_per_image": 1000 * (spent.ours_s - used.ours_s) / len(many),
                    "others_cores": max(0.0, spent.others_s - used.others_s) / seconds,
                }
                found[count].append(figures)
                print(f"actors, round {number + 1} of {rounds}: {count}: {figures}", flush=True)
        for pool in pools.values():
            pool.close()
    rows = {str(count): _medians(turns) for count, turns in found.items()}
    one, two = (np.array([turn["images_per_s"] for turn in found[count]]) for count in ACTORS)
    return {
        "network": "preset demo",
        "images": len(many),
        "size": f"{SIZE[0]}x{SIZE[1]}",
        "rounds": rounds,
        "by_actors": rows,
        "scaling": round(float(np.median(two / one)), 3),
        "scaling_by_round": [round(float(ratio), 3) for ratio in two / one],
    }


def _save_network(folder: Path) -> None:
    """A checkpoint of the demo's network with random weights."""
    config = preset("demo")
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(build_model(config.model), folder / MODEL_FILE)
    (folder / CONFIG_FILE).write_text(config.to_json())


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(t[key] for t in turns), 3) for key in turns[0]}


class _Used:
    """CPU seconds since the start, of this process and all that it started, and of all others.

    Ray's processes live through a turn, so that a difference of two misses none of them.
    """

    def __init__(self, ours_s: float, others_s: float) -> None:
        self.ours_s, self.others_s = ours_s, others_s

    @classmethod
    def now(cls) -> "_Used":
        own = psutil.Process(os.getpid())
        ours = 0.0
        for process in [own, *own.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            ours += times.user + times.system
        machine = psutil.cpu_times()
        busy = sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice
        return cls(ours, busy - ours)
