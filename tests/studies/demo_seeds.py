"""`make study-demo-seeds`: what adaptation gains in the demo, over three seeds.

Each seed renders its own scenes and trains anew. A seed whose results exist is not repeated.
"""

import json
import statistics
import subprocess
import time
from pathlib import Path

from tests.record import STUDIES, goal, write_record

SEEDS = (0, 1, 2)


def main() -> None:
    rows = []
    for seed in SEEDS:
        out = STUDIES / "demo-seeds" / f"seed-{seed}"
        file = out / "results.json"
        if not file.exists():
            started = time.perf_counter()
            subprocess.run(["uda", "demo", "--out", str(out), "--seed", str(seed)], check=True)
            minutes = (time.perf_counter() - started) / 60
            (out / "minutes.json").write_text(json.dumps(minutes))
        rows.append(_row(seed, out))
    gains = [row["gain_points"] for row in rows]
    write_record(
        STUDIES / "demo-seeds.json",
        "make study-demo-seeds",
        {
            "seeds": rows,
            "mean_gain_points": round(statistics.mean(gains), 2),
            "deviation_points": round(statistics.stdev(gains), 2),
        },
        {"smallest gain over seeds, mIoU points": goal(min(gains), 8.0)},
    )


def _row(seed: int, out: Path) -> dict:
    results = json.loads((out / "results.json").read_text())
    miou = {name: 100 * result["miou"] for name, result in results.items()}
    return {
        "seed": seed,
        "source_only": round(miou["source_only"], 2),
        "adapted": round(miou["adapted"], 2),
        "gain_points": round(miou["adapted"] - miou["source_only"], 2),
        "minutes": round(json.loads((out / "minutes.json").read_text()), 1),
        "iou": {name: result["iou"] for name, result in results.items()},
    }


if __name__ == "__main__":
    main()
