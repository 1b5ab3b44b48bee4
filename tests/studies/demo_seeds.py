"""`make study-demo-seeds`: what adaptation gains in the demo, over three seeds.

Each seed renders its own scenes and trains anew. A seed whose results exist is not repeated. The
adapted network has had more steps than the source-only one it starts from; so for one seed, a
control gives the source-only network as many more steps on the source alone.
"""

import json
import statistics
import subprocess
import time
from pathlib import Path

from tests.record import STUDIES, goal, write_record

SEEDS = (0, 1, 2)
CONTROL_SEED = 0


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
    control = _control(STUDIES / "demo-seeds" / f"seed-{CONTROL_SEED}")
    gains = [row["gain_points"] for row in rows]
    write_record(
        STUDIES / "demo-seeds.json",
        "make study-demo-seeds",
        {
            "seeds": rows,
            "control": {"seed": CONTROL_SEED, "miou": round(100 * control["miou"], 2)},
            "mean_gain_points": round(statistics.mean(gains), 2),
            "deviation_points": round(statistics.stdev(gains), 2),
        },
        {"smallest gain over seeds, mIoU points": goal(min(gains), 8.0)},
    )


def _control(out: Path) -> dict:
    """As adaptation goes on from the source-only network, but without the target."""
    file = out / "control.json"
    if not file.exists():
        adapted = json.loads((out / "adapted" / "config.json").read_text())
        same = {
            "seed": adapted["seed"],
            "steps": adapted["steps"],
            "optim.lr": adapted["optim"]["lr"],
            "model.pretrained": adapted["model"]["pretrained"],
        }
        changes = [word for path, value in same.items() for word in ("--set", f"{path}={value}")]
        data = ["--source", f"{out}/shards/game_train", "--target", f"{out}/shards/camera_train"]
        run = ["--out", f"{out}/control", "--workers", "2"]
        train = ["uda", "train", "demo_source_only", *data, *run, *changes]
        subprocess.run(train, check=True)
        evaluate = ["uda", "evaluate", f"{out}/control", f"{out}/shards/camera_val"]
        subprocess.run([*evaluate, "--json", str(file)], check=True)
    return json.loads(file.read_text())


def _row(seed: int, out: Path) -> dict:
    results = json.loads((out / "results.json").read_text())
    miou = {name: 100 * result["miou"] for name, result in results.items()}
    return {
        "seed": seed,
        "source_only": round(miou["source_only"], 2),
        "adapted": round(miou["adapted"], 2),
        "gain_points": round(miou["adapted"] - miou["source_only"], 2),
        "minutes": round(json.loads((out / "minutes.json").read_text()), 1),
        "results": {
            name: {key: result[key] for key in ("classes", "iou", "miou", "pixel_accuracy")}
            for name, result in results.items()
        },
    }


if __name__ == "__main__":
    main()
