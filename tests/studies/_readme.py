"""`make docs`: writes the figures of docs/results into the README and into pages of results."""

import json
import re
from pathlib import Path

from tests.studies import _quality_page, _tune_page
from tests.studies._contrast_page import contrast_page
from tests.studies._readme_eval import evaluation_part
from tests.studies._results_page import camvid_summary, results_page, streets_summary
from uda.report import comparison_table

README = Path("README.md")
RESULTS = Path("docs/results")


def filled(readme: str, results: Path) -> str:
    """The README's text with every marked part made anew from the records in `results`."""
    demo = _read(results, "demo-seeds")
    parts = {
        "table": _table(demo["seeds"][0]["results"]),
        "demo": _demo(demo),
        "streets": streets_summary(),
        "camvid": camvid_summary(),
        "ingest": _ingest(_read(results, "ingest")),
        "scale": _scale(_read(results, "stream-memory"), _read(results, "data-wait")),
        "jpeg": _jpeg(_read(results, "jpeg")),
    }
    if (results / "eval.json").exists():
        gpu = _read(results, "eval-gpu") if (results / "eval-gpu.json").exists() else None
        parts["eval"] = evaluation_part(_read(results, "eval"), gpu)
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
        + _missed(record)
        + f"`{record['command']}` on {record['machine']}, commit {record['commit']}."
    )
    return "\n".join(lines)


def _missed(record: dict) -> str:
    goals = [f"{goal}: {g['value']:.2f} ({g['goal']})" for goal, g in record["goals"].items()
             if not g["met"]]  # fmt: skip
    return f"Missed goals: {'; '.join(goals)}. " if goals else ""


def _ingest(record: dict) -> str:
    """CPU time per sample of everybody, as a share of the best peer's."""
    rows = record["pipelines"]
    best = rows[record["best_peer"]]["cpu_ms_per_sample"]
    lines = [
        "| input pipeline | CPU ms per sample | of the best peer's | samples/s |",
        "|---|---|---|---|",
    ]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["cpu_ms_per_sample"]):
        title = f"**{row['title']}**" if name.startswith("ours") else row["title"]
        cpu = row["cpu_ms_per_sample"]
        lines.append(f"| {title} | {cpu:.1f} | {cpu / best:.2f} | {row['samples_per_s']:.0f} |")
    png = rows["torch_png"]["cpu_ms_per_sample"]
    ours = {name: rows[f"ours_{name}"] for name in ("streaming", "resident")}
    times = " and ".join(f"{png / row['cpu_ms_per_sample']:.0f}" for row in ours.values())
    first = " and ".join(f"{row['first_batch_s']:.2f} s" for row in ours.values())
    slow = {name: rows[name]["paced_cores"] for name in ("ours_streaming", "ray_data")}
    lines.append("")
    lines.append(
        f"2048x1024 images to 512x512 crops (scale, crop, flip) in batches of 4, on "
        f"{record['settings']['threads']} threads or worker processes, medians of "
        f"{record['settings']['repeats']} interleaved rounds; CPU time is that of all processes, "
        f"Ray's too. Streaming and resident take {times} times less of it than the usual "
        f"DataLoader of PNG files. First batch, once the workers are up, after {first}. Beside a "
        f"slow trainer, streaming keeps {slow['ours_streaming']:.2f} of a core busy and Ray Data's "
        f"own executor {slow['ray_data']:.2f}, which is why streaming uses plain Ray tasks. "
        + _missed(record)
        + f"`{record['command']}` on {record['machine']}, commit {record['commit']}."
    )
    return "\n".join(lines)


def _scale(memory: dict, wait: dict) -> str:
    runs = {int(count): run for count, run in memory["runs"].items()}
    few, many = min(runs), max(runs)
    shares = [run["data_wait_share"] for run in wait["runs"].values()]
    return (
        f"Streaming {many} samples needs {runs[many]['peak_memory_mb'] / 1000:.1f} GB for all "
        f"processes (Ray's own included), {few} samples {runs[few]['peak_memory_mb'] / 1000:.1f} "
        f"GB; at most {runs[many]['peak_object_store_mb']:.0f} MB of it in the object store; "
        f"{runs[many]['first_quarter_samples_per_s']:.0f} samples/s in the first quarter and "
        f"{runs[many]['last_quarter_samples_per_s']:.0f} in the last "
        f"(`{memory['command']}`, commit {memory['commit']}). In the demo, two workers wait for "
        f"data {100 * min(shares):.1f} to {100 * max(shares):.1f} % of the time "
        f"(`{wait['command']}`, commit {wait['commit']}); every run logs it as "
        "`speed/data_wait_share`."
    )


def _jpeg(record: dict) -> str:
    lines = ["| | lossless, three seeds | JPEG | mean difference |", "|---|---|---|---|"]
    for name, values in record["results"].items():
        cells = [
            ", ".join(f"{pair[codec]:.1f}" for pair in values["seeds"])
            for codec in ("exact", "jpeg")
        ]
        lines.append(
            f"| {name} | {cells[0]} | {cells[1]} | {values['mean_difference']:+.1f} "
            f"(standard error {values['deviation'] / len(values['seeds']) ** 0.5:.1f}) |"
        )
    lines.append("")
    lines.append(
        f"mIoU in per cent of the same supervised training, {record['steps']} steps, on either "
        f"form of the images, tested on lossless ones. `{record['command']}` on "
        f"{record['machine']}, commit {record['commit']}."
    )
    return "\n".join(lines)


# Documents that are made as a whole.
PAGES = {Path("RESULTS.md"): results_page, Path("docs/contrast.md"): contrast_page}
DRAWINGS = {_tune_page.PAGE: _tune_page.draw_tune, _quality_page.PAGE: _quality_page.draw_quality}
if _tune_page.RECORD.exists():
    PAGES[_tune_page.PAGE] = _tune_page.tune_page
if _quality_page.RECORD.exists():
    PAGES[_quality_page.PAGE] = _quality_page.quality_page

if __name__ == "__main__":
    README.write_text(filled(README.read_text(), RESULTS))
    for path, page in PAGES.items():
        path.write_text(page())
    for path, draw in DRAWINGS.items():
        if path in PAGES:
            draw()
    print(f"wrote {README}, {', '.join(map(str, PAGES))}")
