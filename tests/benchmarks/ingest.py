"""`make bench-ingest`: our input pipelines beside those of others, on the same samples.

All do the same (`ingest_peers/transform.py`) in two threads or worker processes, in rounds in
which each gets one turn, so that a busy moment of the machine meets all. What counts is the CPU
time of the whole process tree per sample; the best peer is the best of all variants of all peers.
An interrupted bench goes on where it was, as long as neither code nor settings change.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from tests.benchmarks.ingest_peers import PEERS_PYTHON, PIPELINES
from tests.benchmarks.ingest_peers.measure import Settings, measure
from tests.benchmarks.ingest_peers.picture import Bar, draw_bars
from tests.record import BENCHES, at_most, goal, write_record

DATA, LOGS = BENCHES / "ingest-data", BENCHES / "ingest-logs"
ROUNDS = BENCHES / "ingest-rounds.jsonl"
CODE = ("uda", "cluster", "tests/benchmarks/ingest_peers")
REQUIREMENTS = ("requirements.txt", "requirements-bench.txt")

Figures = dict[str, float]


def main() -> None:
    arguments = _arguments()
    settings = Settings(
        scenes=arguments.scenes,
        samples=arguments.samples,
        threads=arguments.threads,
        paced_s=arguments.paced_s,
    )
    maker = [PEERS_PYTHON, "-m", "tests.benchmarks.ingest_peers.data", DATA, str(settings.scenes)]
    made = subprocess.run(maker, check=True, stdout=subprocess.PIPE, text=True)
    data = json.loads(made.stdout.splitlines()[-1])
    names = arguments.only or list(PIPELINES)
    results = _measure_all(names, arguments.repeats, settings)
    summary = {name: _summary(results[name]) for name in names}
    print(_table(summary))
    if set(names) == set(PIPELINES):
        _record(summary, settings, arguments.repeats, data)


def _arguments() -> argparse.Namespace:
    default = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--samples", type=int, default=default.samples, help="timed, per turn")
    parser.add_argument("--scenes", type=int, default=default.scenes, help="different images")
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--paced-s", type=float, default=default.paced_s)
    parser.add_argument("--only", nargs="+", choices=PIPELINES, help="no record is written")
    return parser.parse_args()


def _measure_all(names: list[str], repeats: int, settings: Settings) -> dict[str, list[Figures]]:
    """The figures of every pipeline, a list over the rounds; keeps what was measured before."""
    key = _key(settings)
    lines = ROUNDS.read_text().splitlines() if ROUNDS.exists() else []
    kept = {
        (line["round"], line["pipeline"]): line["figures"]
        for line in map(json.loads, lines)
        if line["key"] == key
    }
    LOGS.mkdir(parents=True, exist_ok=True)
    for number in range(repeats):
        first = number * len(names) // repeats  # everyone comes at different places of a round
        for name in [*names[first:], *names[:first]]:
            if (number, name) in kept:
                continue
            figures = measure(name, DATA, settings, LOGS / f"{name}.log")
            kept[number, name] = figures
            line = {"key": key, "round": number, "pipeline": name, "figures": figures}
            with ROUNDS.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(
                f"round {number + 1} of {repeats}: {name:15}"
                f"{figures['cpu_ms_per_sample']:8.2f} ms CPU per sample,"
                f"{figures['samples_per_s']:7.1f} samples/s",
                flush=True,
            )
    return {name: [kept[number, name] for number in range(repeats)] for name in names}


def _key(settings: Settings) -> str:
    """Of everything that the figures depend on but the machine."""
    digest = hashlib.sha256(repr(settings).encode())
    code = (file for folder in CODE for file in sorted(Path(folder).rglob("*.py")))
    for file in [*code, *map(Path, REQUIREMENTS)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _summary(rounds: list[Figures]) -> dict[str, Any]:
    """Medians over the rounds, and the range of the CPU time."""
    cpu = [figures["cpu_ms_per_sample"] for figures in rounds]
    medians = {key: round(statistics.median(f[key] for f in rounds), 3) for key in rounds[0]}
    return {**medians, "cpu_ms_range": [round(min(cpu), 2), round(max(cpu), 2)]}


def _cpu(summary: dict[str, dict[str, Any]], name: str) -> float:
    return summary[name]["cpu_ms_per_sample"]


def _best_peer(summary: dict[str, dict[str, Any]]) -> str | None:
    peers = [name for name in summary if PIPELINES[name].kind == "peer"]
    return min(peers, key=lambda name: _cpu(summary, name), default=None)


def _table(summary: dict[str, dict[str, Any]]) -> str:
    best = _best_peer(summary)
    lines = [
        "| pipeline | CPU ms per sample (range) | of the best peer | samples/s | peak MB "
        "| first batch s | cores beside a slow trainer |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in summary.items():
        low, high = row["cpu_ms_range"]
        ratio = f"{_cpu(summary, name) / _cpu(summary, best):.2f}" if best else ""
        paced = f"{row['paced_cores']:.2f}" if "paced_cores" in row else ""
        lines.append(
            f"| {PIPELINES[name].title} | {_cpu(summary, name):.2f} ({low:.2f} to {high:.2f}) "
            f"| {ratio} | {row['samples_per_s']:.0f} | {row['peak_pss_mb']:.0f} "
            f"| {row['first_batch_s']:.1f} | {paced} |"
        )
    return "\n".join(lines)


def _record(
    summary: dict[str, dict[str, Any]], settings: Settings, repeats: int, data: dict[str, Any]
) -> None:
    best = _best_peer(summary)
    assert best is not None
    ours = ("ours_streaming", "ours_resident")
    ratio = {name: _cpu(summary, name) / _cpu(summary, best) for name in ours}
    png = {name: _cpu(summary, "torch_png") / _cpu(summary, name) for name in ours}
    over_floor = _cpu(summary, "ours_resident") / _cpu(summary, "floor")
    first = max(summary[name]["first_batch_s"] for name in ours)
    goals = {
        "CPU per sample, streaming over best peer": at_most(ratio["ours_streaming"], 0.6),
        "CPU per sample, resident over best peer": at_most(ratio["ours_resident"], 0.4),
        "CPU per sample, PNG DataLoader over streaming": goal(png["ours_streaming"], 15),
        "CPU per sample, PNG DataLoader over resident": goal(png["ours_resident"], 15),
        "CPU per sample, resident over floor": at_most(over_floor, 1.3),
        "first batch of the slower mode, s": at_most(first, 5),
    }
    figures = {
        "best_peer": best,
        "settings": {**asdict(settings), "repeats": repeats},
        **data,
        "pipelines": {name: {"title": PIPELINES[name].title, **summary[name]} for name in summary},
    }
    write_record(BENCHES / "ingest.json", "make bench-ingest", figures, goals)
    _draw(summary, settings).save(BENCHES / "ingest.png")
    print(f"wrote {BENCHES / 'ingest.png'}")
    for name, met in goals.items():
        print(f"{'met   ' if met['met'] else 'MISSED'} {name}: {met['value']} ({met['goal']})")


def _draw(summary: dict[str, dict[str, Any]], settings: Settings) -> Image.Image:
    bars = [
        Bar(PIPELINES[n].title, PIPELINES[n].kind, _cpu(summary, n), tuple(row["cpu_ms_range"]))
        for n, row in sorted(summary.items(), key=lambda item: -_cpu(summary, item[0]))
    ]
    note = (
        f"2048x1024 images to 512x512 crops, JPEG unless said otherwise; "
        f"{settings.threads} threads or worker processes; bar: median, line: range of the rounds"
    )
    return draw_bars(bars, "CPU milliseconds per sample", note)


if __name__ == "__main__":
    main()
