"""`make bench-data-wait`: how long the demo's trainer waits for its data, in both ingest modes.

Two Ray Train workers train the demo's network, source-only (the cheapest step, so the hardest case)
and adapted, for some steps; the share of the time that they waited is what the run logs as
`speed/data_wait_share`. The first lines are left out: the first batch has nobody to hide behind.
"""

import argparse
import shutil
import statistics
from pathlib import Path
from typing import Any

from cluster.prepare import prepare
from cluster.runtime import required_cpus, start_ray
from cluster.train import Scaling, train
from tests.record import BENCHES, at_most, write_record
from uda.journal import read_scalars
from uda.presets import preset
from uda.run import open_run
from uda.tree import override

FOLDER = BENCHES / "data-wait"
WORKERS = 2
WARM_UP = 20  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    runs = {}
    with start_ray(needed_cpus=required_cpus(WORKERS, 1)):
        shards = {look: FOLDER / "shards" / look for look in ("game", "camera")}
        for look, folder in shards.items():
            prepare("streets", look, folder, "train", count=400)
        for method in ("source_only", "self_training"):
            for mode in ("resident", "streaming"):
                runs[f"{method}, {mode}"] = _run(method, mode, shards, steps)
    worst = max(run["data_wait_share"] for run in runs.values())
    write_record(
        BENCHES / "data-wait.json",
        "make bench-data-wait",
        {"steps": steps, "workers": WORKERS, "runs": runs},
        {"largest share of the step spent waiting for data": at_most(worst, 0.05)},
    )


def _run(method: str, mode: str, shards: dict[str, Path], steps: int) -> dict[str, Any]:
    config = override(preset(f"demo_{method}", steps), {"ingest.mode": mode})
    out = FOLDER / f"{method}-{mode}"
    shutil.rmtree(out, ignore_errors=True)
    run = open_run(config, out, shards["game"], shards["camera"], num_workers=WORKERS)
    train(run, Scaling(num_workers=WORKERS))
    lines = [line for line in read_scalars(out) if line["step"] > WARM_UP]
    figures = {
        "data_wait_share": statistics.mean(line["speed/data_wait_share"] for line in lines),
        "samples_per_second": statistics.mean(line["speed/samples_per_second"] for line in lines),
    }
    print(f"{method}, {mode}: {figures}")
    return {name: round(value, 4) for name, value in figures.items()}


if __name__ == "__main__":
    main()
