"""What the documents of results are made of: records of runs, their means, and tables."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tests.studies._experiments import KEPT, Experiment, record_of

Runs = dict[str, list[dict[str, Any]]]  # records by experiment, one for each seed

SEEDS = (0, 1, 2)


def records(experiments: Iterable[Experiment]) -> Runs:
    """The records of exactly these experiments; of another configuration's none."""
    found: Runs = defaultdict(list)
    for experiment in experiments:
        for seed in SEEDS:
            if (record := record_of(experiment, seed, (KEPT,))) is not None:
                found[experiment.name].append(record)
    return dict(found)


def mean(runs: Runs, name: str) -> float:
    """Mean mIoU in per cent."""
    return statistics.mean(_by_seed(runs, name).values())


def gain(runs: Runs, name: str, over: str) -> float:
    """Points of mIoU, over the seeds that both have run: seeds differ by more than parts do."""
    ours, theirs = _by_seed(runs, name), _by_seed(runs, over)
    return statistics.mean(ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys())


def closed(runs: Runs, name: str, baseline: str, oracle: str) -> float:
    """Share of the gap between baseline and oracle that is closed, in per cent, on common seeds."""
    seeds = set.intersection(*(set(_by_seed(runs, n)) for n in (name, baseline, oracle)))
    alike = {n: [r for r in runs[n] if r["seed"] in seeds] for n in (name, baseline, oracle)}
    return 100 * gain(alike, name, baseline) / gain(alike, oracle, baseline)


def _by_seed(runs: Runs, name: str) -> dict[int, float]:
    return {record["seed"]: 100 * record["miou"] for record in runs[name]}


def score(runs: Runs, name: str) -> str:
    """Mean and deviation over the seeds, and how many there are if not all."""
    values = [100 * record["miou"] for record in runs[name]]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    few = f" ({len(values)} of {len(SEEDS)} seeds)" if len(values) < len(SEEDS) else ""
    return f"{statistics.mean(values):.1f}{spread}{few}"


def table(head: str, rows: Iterable[list[str]]) -> str:
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|---" * columns + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def per_class(runs: Runs, names: Mapping[str, str]) -> str:
    """Mean IoU of every class for some experiments; `names` are their titles."""
    classes = list(next(iter(runs.values()))[0]["iou"])
    rows = []
    for name, title in names.items():
        cells = []
        for c in classes:
            values = [r["iou"][c] for r in runs[name] if r["iou"][c] is not None]
            cells.append(f"{100 * statistics.mean(values):.0f}" if values else "-")
        rows.append([title, f"**{mean(runs, name):.1f}**", *cells])
    return table(f"IoU % | mean | {' | '.join(classes)}", rows)


def provenance(runs: Runs) -> str:
    """Where and on what the records were made."""
    all_records = [record for group in runs.values() for record in group]
    machines = sorted({r["machine"] for r in all_records})
    commits = sorted({r["commit"] for r in all_records})
    minutes = sum(r["minutes"] for r in all_records)
    return (
        f"{len(all_records)} runs, {minutes / 60:.1f} hours of processes that shared a machine: "
        f"{'; '.join(machines)}. Commits: {', '.join(commits)}."
    )
