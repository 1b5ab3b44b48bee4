"""What the documents of results are made of: records of runs, their means, and tables."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tests.studies._experiments import KEPT, SEEDS, Experiment, record_of

Runs = dict[str, list[dict[str, Any]]]  # records by experiment, one for each seed


def records(experiments: Iterable[Experiment]) -> Runs:
    """The records of exactly these experiments; of another configuration's none.

    Raises:
        ValueError: those of one setting were made on different data.
    """
    found: Runs = defaultdict(list)
    data: dict[str, str] = {}
    for experiment in experiments:
        for seed in SEEDS:
            if (record := record_of(experiment, seed, (KEPT,))) is not None:
                found[experiment.name].append(record)
                digests = json.dumps(record.get("data"))  # not in those of the first days
                if digests != "null" and data.setdefault(experiment.setting, digests) != digests:
                    raise ValueError(f"{experiment.file(seed)}: made on other data than the rest")
    return dict(found)


def mean(runs: Runs, name: str) -> float:
    """Mean mIoU in per cent."""
    return statistics.mean(_by_seed(runs, name).values())


def gains(runs: Runs, name: str, over: str) -> list[float]:
    """Points of mIoU for each seed that both have run: seeds differ by more than parts do."""
    ours, theirs = (_by_seed(runs, n) if n in runs else {} for n in (name, over))
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def gain(runs: Runs, name: str, over: str) -> str:
    """Mean and deviation of the gains, or nothing."""
    values = gains(runs, name, over)
    return _mean_and_spread(values, "+.1f") if values else ""


def closed(runs: Runs, name: str, baseline: str, oracle: str) -> str:
    """Share of the gap between baseline and oracle that is closed, in per cent; or nothing.

    Over the seeds that all three have run.
    """
    low, ours, high = (_by_seed(runs, n) if n in runs else {} for n in (baseline, name, oracle))
    seeds = low.keys() & ours.keys() & high.keys()
    if not seeds:
        return ""
    return (
        f"{100 * sum(ours[s] - low[s] for s in seeds) / sum(high[s] - low[s] for s in seeds):.0f}"
    )


def score(runs: Runs, name: str) -> str:
    """Mean and deviation over the seeds, and how many there are if not all."""
    values = list(_by_seed(runs, name).values())
    few = f" ({len(values)} of {len(SEEDS)} seeds)" if len(values) < len(SEEDS) else ""
    return _mean_and_spread(values, ".1f") + few


def _by_seed(runs: Runs, name: str) -> dict[int, float]:
    return {record["seed"]: 100 * record["miou"] for record in runs[name]}


def _mean_and_spread(values: list[float], form: str) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def table(head: str, rows: Iterable[list[str]]) -> str:
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|---" * columns + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def per_class(runs: Runs, names: Mapping[str, str]) -> str:
    """Mean IoU of every class for some experiments; `names` are their titles."""
    classes = list(next(iter(runs.values()))[0]["iou"])
    rows = []
    for name in [n for n in names if n in runs]:
        cells = []
        for c in classes:
            values = [r["iou"][c] for r in runs[name] if r["iou"][c] is not None]
            cells.append(f"{100 * statistics.mean(values):.0f}" if values else "-")
        rows.append([names[name], f"**{mean(runs, name):.1f}**", *cells])
    return table(f"IoU % | mean | {' | '.join(classes)}", rows)


def provenance(runs: Runs) -> str:
    """Where and on what the records were made."""
    all_records = [record for group in runs.values() for record in group]
    machines = sorted({r["machine"] for r in all_records})
    commits = sorted({f"{r['commit']}{'+' * r['changed_since_commit']}" for r in all_records})
    minutes = sum(r["minutes"] for r in all_records)
    changed = " (+ with changes)" if any("+" in commit for commit in commits) else ""
    return (
        f"{len(all_records)} runs, {minutes / 60:.1f} hours of processes that shared a machine: "
        f"{'; '.join(machines)}. Commits: {', '.join(commits)}{changed}."
    )
