"""`make bench-stream-memory`: streaming needs the same memory for any number of samples.

A folder of 64 scenes is repeated virtually, to 1000 samples and to 50 000, and one epoch of it is
streamed through Ray into batches of crops. Measured over this process and all of Ray's: resident
memory (shared pages divided among their users), bytes in the object store, samples per second in
the first and in the last quarter, and the first batch.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import psutil

from tests.record import BENCHES, at_most, goal, write_record
from uda.data.crop import CropConfig
from uda.data.loader import CropLoader, Share
from uda.data.prepare import prepare
from uda.data.rows import EncodedRow, ShardRows
from uda.data.sampling import EpochPlan, SamplingConfig
from uda.data.shards import SampleStatistics, ShardFolder, open_shards

SCENES, SIZE = 64, (1024, 512)
COUNTS = (1_000, 10_000, 50_000)
AHEAD_MB = 128
CROP = CropConfig(height=256, width=256, scale=(0.5, 1.0))
BATCH = 8
FOLDER = BENCHES / "stream-memory"


class RepeatedRows:
    """A RowReader of `count` samples that are those of another, again and again."""

    def __init__(self, rows: ShardRows, count: int) -> None:
        self._rows, self._count = rows, count

    def __len__(self) -> int:
        return self._count

    def row(self, index: int) -> EncodedRow:
        return self._rows.row(index % len(self._rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, help="just this one, as JSON")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    arguments = parser.parse_args()
    prepare("streets", "game", FOLDER / "shards", "train", count=SCENES, size=SIZE)
    if arguments.count:
        print(json.dumps(measure(open_shards(FOLDER / "shards"), arguments.count)))
        return
    runs = {str(count): _in_its_own_process(count) for count in arguments.counts}
    first, last = (runs[str(count)] for count in (arguments.counts[0], arguments.counts[-1]))
    write_record(
        BENCHES / "stream-memory.json",
        "make bench-stream-memory",
        {"ahead_mb": AHEAD_MB, "runs": runs},
        {
            "memory with most samples / with fewest": at_most(
                last["peak_memory_mb"] / first["peak_memory_mb"], 1.15
            ),
            "object store, MB": at_most(last["peak_object_store_mb"], 2 * AHEAD_MB),
            "speed of the last quarter / of the first": goal(
                last["last_quarter_samples_per_s"] / last["first_quarter_samples_per_s"], 0.85
            ),
            "first batch, s": at_most(last["first_batch_s"], 5.0),
        },
    )


def _in_its_own_process(count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.stream_memory", "--count", str(count)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(result.stdout.splitlines()[-1])
    print(f"{count} samples: {figures}")
    return figures


def measure(folder: ShardFolder, count: int) -> dict[str, float]:
    """One epoch of `count` samples."""
    import ray

    from cluster.runtime import start_ray
    from cluster.streaming import StreamedCrops, open_stream

    statistics = folder.statistics(labels=True)
    many = np.arange(count) % len(folder)
    repeated = SampleStatistics(
        class_pixels=statistics.class_pixels[many], pixels=statistics.pixels[many]
    )
    plan = EpochPlan(repeated, SamplingConfig(), seed=0)
    share = Share(batch_size=BATCH)
    with start_ray(needed_cpus=4), ThreadPoolExecutor(2) as executor:
        stream = open_stream(
            folder, plan, CROP, labels=True, decode=False, ahead_bytes=1e6 * AHEAD_MB
        )
        rows = RepeatedRows(ShardRows(folder, labels=True), count)
        stream = replace(stream, rows=ray.put(rows), samples=count)
        loader = CropLoader(
            StreamedCrops(stream, share), plan, CROP, share, labels=True, executor=executor
        )
        ray.get([stream.begin([]) for _ in range(2)])  # from here on, its processes are up
        figures = _watch(loader, count // BATCH)
        loader.close()
    return figures


def _watch(loader: CropLoader, steps: int) -> dict[str, float]:
    quarter = steps // 4
    memory: list[float] = []
    store: list[float] = []
    times = []
    started = time.perf_counter()
    for step, _ in enumerate(itertools.islice(loader.batches(), steps)):
        times.append(time.perf_counter() - started)
        if step % max(1, steps // 25) == 0:
            memory.append(_tree_memory_mb())
            store.append(_object_store_mb())
    return {
        "peak_memory_mb": round(max(memory), 1),
        "peak_object_store_mb": round(max(store), 1),
        "first_batch_s": round(times[0], 2),
        "first_quarter_samples_per_s": round(
            BATCH * (quarter - 1) / (times[quarter] - times[1]), 1
        ),
        "last_quarter_samples_per_s": round(
            BATCH * (quarter - 1) / (times[-1] - times[-quarter]), 1
        ),
    }


def _tree_memory_mb() -> float:
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


def _object_store_mb() -> float:
    import ray

    capacity = ray.cluster_resources()["object_store_memory"]
    return (capacity - ray.available_resources().get("object_store_memory", 0.0)) / 1e6


if __name__ == "__main__":
    main()
