"""`make docs`: writes the figures of docs/results into the README, between its marks."""

import json
import re
from pathlib import Path

from uda.report import comparison_table

README = Path("README.md")
RESULTS = Path("docs/results")


def filled(readme: str, results: Path) -> str:
    """The README's text with every marked part made anew from the records in `results`."""
    demo = _read(results, "demo-seeds")
    parts = {
        "table": _table(demo["seeds"][0]["results"]),
        "demo": _demo(demo),
        "camvid": _camvid(_read(results, "camvid")),
    }
    for name, text in parts.items():
        marks = (f"<!-- {name} -->", f"<!-- /{name} -->")
        pattern = re.compile(re.escape(marks[0]) + ".*?" + re.escape(marks[1]), re.DOTALL)
        if not pattern.search(readme):
            raise ValueError(f"README: has no marks {marks[0]} ... {marks[1]}")
        readme = pattern.sub(lambda _, m=marks, t=text: f"{m[0]}\n{t}\n{m[1]}", readme)
    return readme


def _read(results: Path, name: str) -> dict:
    return json.loads((results / f"{name}.json").read_text())


def _table(results: dict) -> str:
    """What `make demo` prints at the end."""
    return f"```\n{comparison_table({n.replace('_', '-'): r for n, r in results.items()})}\n```"


def _demo(record: dict) -> str:
    lines = ["| seed | source-only | adapted | gain | minutes |", "|---|---|---|---|---|"]
    for row in record["seeds"]:
        lines.append(
            f"| {row['seed']} | {row['source_only']:.1f} | {row['adapted']:.1f} "
            f"| {row['gain_points']:+.1f} | {row['minutes']:.0f} |"
        )
    lines.append("")
    lines.append(
        f"mIoU in per cent over 19 classes, 100 unseen `camera` scenes. Mean gain "
        f"{record['mean_gain_points']:+.1f} points (deviation {record['deviation_points']:.1f}). "
        f"Training the source-only network as many steps longer on the source alone instead gives "
        f"{record['control']['miou']:.1f} (seed {record['control']['seed']}). "
        f"`{record['command']}` on {record['machine']}, commit {record['commit']}."
    )
    return "\n".join(lines)


def _camvid(record: dict) -> str:
    runs = record["runs"]
    classes = list(next(iter(runs.values()))["iou"])
    lines = [f"| | mIoU | {' | '.join(classes)} |", "|---" * (len(classes) + 2) + "|"]
    for name, run in runs.items():
        cells = " | ".join(f"{100 * run['iou'][c]:.0f}" for c in classes)
        lines.append(f"| {name.replace('_', '-')} | **{run['miou']:.1f}** | {cells} |")
    lines.append("")
    steps = ", ".join(f"{r['steps']} steps in {r['minutes']:.0f} min" for r in runs.values())
    lines.append(
        f"IoU in per cent on the 233 test photographs at their own size, one seed, last step; gain "
        f"{record['gain_points']:+.1f} points. One process each ({steps}). "
        f"`{record['command']}` on {record['machine']}, commit {record['commit']}."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    README.write_text(filled(README.read_text(), RESULTS))
    print(f"wrote {README}")
