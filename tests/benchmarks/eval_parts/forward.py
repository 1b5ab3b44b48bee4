"""Seconds of the reference network for one image on the CPU; each case in a process of its own.

So nobody inherits another's memory, threads or caches. A case looks at the image once to warm up,
then as often as `repeats`; the quickest counts, as other work on the machine only slows it down.
With one thread it is CPU time, which other work hardly touches; several threads use up CPU time
while they wait for each other, so theirs is the time on the clock.
"""

import argparse
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.eval_parts.network import (
    LAYOUTS,
    Case,
    ask_module,
    reference_network,
    say_result,
    share_differing,
)
from uda.inference import class_scores, labels_of

BASE = Case()
PLAIN_CASES = [
    Case(precision=precision, layout=layout)
    for precision in ("float32", "bfloat16")
    for layout in LAYOUTS
]
COMPILED_CASES = [
    Case(compiled=True),
    Case(precision="bfloat16", layout="channels_last", compiled=True),
]
_LIMIT_S = 600


def measure_forward(
    image: Path, rounds: int, repeats: int, compile_limit_s: float
) -> dict[str, Any]:
    """By number of threads and case: seconds per image, speed-up, peak MB, share of other classes.

    Each case gets a turn in each of `rounds`, so that a busy moment of the machine meets all. A
    compiled one that takes longer than its limit, compilation included, has only a `failed`, and
    gets no other turn.
    """
    labels = image.with_suffix(".labels.npy")  # what float32 said
    thread_numbers = list(dict.fromkeys((os.cpu_count() or 1, 1)))
    turns: dict[tuple[int, Case], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for threads in thread_numbers:
            for case in PLAIN_CASES + COMPILED_CASES:
                if any("failed" in turn for turn in turns.get((threads, case), [])):
                    continue
                limit_s = compile_limit_s if case.compiled else _LIMIT_S
                turn = _in_its_own_process(case, threads, image, labels, repeats, limit_s)
                turns.setdefault((threads, case), []).append(turn)
                print(f"forward, {threads} threads: {case.name}: {turn}", flush=True)
    found: dict[str, dict[str, Any]] = {}
    for (threads, case), case_turns in turns.items():
        row = _summary(case_turns)
        rows = found.setdefault(str(threads), {})
        rows[case.name] = row
        if "failed" not in row:
            time_of = "cpu_seconds" if threads == 1 else "seconds"
            row["speed_up"] = round(rows[BASE.name][time_of] / row[time_of], 3)
    return found


def _summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    if "failed" in turns[-1]:
        return turns[-1]
    times = {key: [t for turn in turns for t in turn[key]] for key in ("seconds", "cpu_seconds")}
    return {
        "seconds": round(min(times["seconds"]), 3),
        "seconds_median": round(float(np.median(times["seconds"])), 3),
        "cpu_seconds": round(min(times["cpu_seconds"]), 3),
        "first_s": min(turn["first_s"] for turn in turns),
        "peak_mb": max(turn["peak_mb"] for turn in turns),
        "share_differing": turns[0]["share_differing"],
        "classes": turns[0]["classes"],
    }


def _in_its_own_process(
    case: Case, threads: int, image: Path, labels: Path, repeats: int, limit_s: float
) -> dict[str, Any]:
    options = [f"--precision={case.precision}", f"--layout={case.layout}"]
    options += ["--compiled"] if case.compiled else []
    answer = ask_module(
        __name__,
        *(image, labels, f"--repeats={repeats}", *options),
        limit_s=limit_s,
        environment={"OMP_NUM_THREADS": str(threads)},
    )
    if answer.failed and not case.compiled:
        raise SystemExit(f"{case.name}: {answer.failed}")
    return {"failed": answer.failed} if answer.result is None else answer.result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, help=".npy of uint8 RGB")
    parser.add_argument("labels", type=Path, help=".npy of what float32 says; written by float32")
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--layout", required=True)
    parser.add_argument("--compiled", action="store_true")
    arguments = parser.parse_args()
    case = Case(precision=arguments.precision, layout=arguments.layout, compiled=arguments.compiled)
    pixels = np.load(arguments.image)
    with case.in_force():
        network = case.prepared(reference_network(pixels), "cpu")
        images = network.normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        seconds, cpu_seconds = [], []
        for _ in range(1 + arguments.repeats):
            started, used = time.perf_counter(), time.process_time()
            labels = labels_of(class_scores(network, images, case.inference))
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - used)
    if case == BASE:
        np.save(arguments.labels, labels.numpy())
    expected = torch.from_numpy(np.load(arguments.labels))
    say_result(
        {
            "seconds": [round(t, 3) for t in seconds[1:]],
            "cpu_seconds": [round(t, 3) for t in cpu_seconds[1:]],
            "first_s": round(seconds[0], 1),
            "peak_mb": round(_peak_mb()),
            "share_differing": round(share_differing(expected, labels), 5),
            "classes": len(labels.unique()),
        }
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
