"""`make study-quality`: does label-free quality choose the networks that are good on the target?

Checkpoints of the runs of `make study-ablation` (those that are there), of some bad runs and of
planted failures are scored without labels, and by the target's test labels to see whether the score
was right. What is scored once is kept; docs/results/quality.json is the result.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.record import STUDIES, at_most, goal, write_record
from tests.studies._correlation import (
    ranked_right,
    ranks,
    regret,
    spearman,
    weighted_spearman,
)
from tests.studies._data import shards
from tests.studies._early_stop import early_stops
from tests.studies._judging import miou_of, quality_of
from tests.studies._population import BAD_RUNS, Candidate, all_candidates, candidates
from tests.studies._runner import Place, carry_out
from uda.data.examples import open_examples
from uda.data.rows import ShardRows
from uda.inference import PLAIN, Inference, ready
from uda.quality import MEASURES, Evidence, SourceStatistics, Statistics
from uda.quality.agreement import agreement, mean_of
from uda.quality.score import combined
from uda.report import write_json

IMAGES = 64  # of each domain
SEEDS = (0, 1, 2)
MARGINS = (0.0, 0.01, 0.02, 0.05, 0.1)  # of quality
NO_ADAPTATION = ("start", "source_only")  # runs that never stall: their labels are right
KEPT, NEW = Path("docs/results/quality"), STUDIES / "quality"
Entry = dict[str, Any]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    place = Place(command="python -m tests.studies.quality", device="cpu", quiet=True)
    for experiment in BAD_RUNS if arguments.train else []:
        if experiment.setting in arguments.settings and not experiment.network(0).exists():
            carry_out((experiment, 0), place)
    for setting in arguments.settings:
        _score_all(setting, part=arguments.part)
    entries = {s: entries_of(s) for s in ("streets", "camvid")}
    for setting, found in entries.items():
        _agreements(setting, found)
    write_record(
        STUDIES / "quality.json",
        "make study-quality",
        {s: {**_summary(e), "candidates": list(e.values())} for s, e in entries.items() if e},
        _goals({s: e for s, e in entries.items() if e}),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", default=["streets"], choices=["streets", "camvid"])
    parser.add_argument("--train", action="store_true", help="the bad runs too, where they lack")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"),
                        help="every Nth candidate from the Ith on: a process per core")  # fmt: skip
    return parser.parse_args()


def entries_of(setting: str) -> dict[str, Entry]:
    """What is kept and what is new, by key, but for what is not of the population any more.

    A run may be gone from it, or have other settings by now; whether it is on this machine says
    nothing.
    """
    folders = {one.key: one.folder.parent.name for one in all_candidates(setting, SEEDS)}
    found: dict[str, Entry] = {}
    for file in [*KEPT.glob(f"{setting}*.json"), *NEW.glob(f"{setting}*.json")]:
        for key, entry in json.loads(file.read_text()).items():
            if entry["folder"] == folders.get(key) and _is_complete(entry):
                found[key] = entry
    return found


def _is_complete(entry: Entry) -> bool:
    """Not where images were broken, and it was not yet kept how many."""
    return "whole" in entry or not any("not finite" in note for note in entry["notes"])


def _score_all(setting: str, part: tuple[int, int]) -> None:
    data = shards(setting)
    test = open_examples(data["test"])
    source = ShardRows(
        shards("streets" if setting == "streets" else setting)["source"], labels=True
    )
    target = ShardRows(data["target"], labels=False)
    file = NEW / f"{setting}-{part[0]}-of-{part[1]}.json"
    known = entries_of(setting)
    new = json.loads(file.read_text()) if file.exists() else {}
    for candidate in [*candidates(setting, SEEDS)][part[0] :: part[1]]:
        if candidate.key not in known:
            new[candidate.key] = _scored(candidate, source, target, test, setting)
            write_json(file, new)
            print(f"{candidate.key}: quality {new[candidate.key]['quality']:.3f}, "
                  f"mIoU {new[candidate.key]['oracle_miou']:.2f}", flush=True)  # fmt: skip


def _scored(
    candidate: Candidate, source: ShardRows, target: ShardRows, test: Any, setting: str
) -> Entry:
    model = ready(candidate.load(), PLAIN, "cpu")
    found, seen = quality_of(model, source, target, IMAGES, impressions=True)
    inference = Inference(scales=(0.5,) if setting == "camvid" else (1.0,))
    truth = miou_of(model, test, inference)
    NEW.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        NEW / f"{setting}-{candidate.key}.npz", **{str(i): a for i, a in seen.impressions.items()}
    )
    return {
        "run": candidate.run,
        "seed": candidate.seed,
        "step": candidate.step,
        "planted": candidate.planted,
        "folder": candidate.folder.parent.name,  # has the digest of its settings in it
        **found,
        "oracle_miou": truth,
    }


def _agreements(setting: str, entries: dict[str, Entry]) -> None:
    """Fills in the agreement with the ensemble of all of them, where their impressions are."""
    files = {key: NEW / f"{setting}-{key}.npz" for key in entries}
    if not all(file.exists() for file in files.values()):
        return
    said = {key: {int(i): a for i, a in np.load(file).items()} for key, file in files.items()}
    members = [v for key, v in said.items() if not entries[key]["planted"]]
    ensemble = mean_of(members)
    for key, impressions in said.items():
        seen = Statistics(impressions=impressions)
        evidence = Evidence(target=seen, source=_all_classes(), ensemble=ensemble)
        entries[key]["measures"]["agreement"] = agreement(evidence)


def _all_classes() -> SourceStatistics:
    from uda.metrics import Confusion

    return SourceStatistics(confusion=Confusion(np.eye(19, dtype=np.int64)))


def _summary(entries: dict[str, Entry]) -> dict[str, Any]:
    """How every measure, and the score of all, ranks the candidates and chooses among them."""
    honest = [e for e in entries.values() if not e["planted"]]
    truth = np.array([e["oracle_miou"] for e in honest])
    scores = np.array([entry_value(e, "quality") for e in honest])
    rows = {}
    for name in ("quality", *MEASURES):
        values = np.array([entry_value(e, name) for e in honest])
        if np.isfinite(values).any():
            rows[name] = {
                "spearman": round(spearman(values, truth), 3),
                "weighted_spearman": round(weighted_spearman(values, truth), 3),
                "regret": round(regret(values, truth), 2),
            }
    last = [max((e for e in honest if (e["run"], e["seed"]) == run), key=lambda e: e["step"])
            for run in sorted({(e["run"], e["seed"]) for e in honest})]  # fmt: skip
    rows["last"] = {"regret": round(truth.max() - np.mean([e["oracle_miou"] for e in last]), 2)}
    first = max(honest, key=lambda e: entry_value(e, "quality"))
    planted = [e for e in entries.values() if e["planted"]]
    chosen = [
        e["planted"]
        for e in planted  # one that says the same as the first, surer, is no worse a choice
        if entry_value(e, "quality") >= entry_value(first, "quality")
        and e["oracle_miou"] < first["oracle_miou"]
    ]
    return {
        "checkpoints": len(honest),
        "runs": len(last),
        "measures": rows,
        "early_stops": early_stops(
            [e for e in honest if not e["run"].endswith(NO_ADAPTATION)],
            lambda entry: entry_value(entry, "quality"),
        ),
        "pairs": _pairs(scores, truth),
        "leanings": _leanings(honest, scores, truth),
        "planted": len(planted),
        "planted_chosen": chosen,
    }


def _pairs(values: np.ndarray, truth: np.ndarray) -> list[dict[str, Any]]:
    """How far a difference in quality can be trusted."""
    found = [(margin, *ranked_right(values, truth, margin)) for margin in MARGINS]
    return [
        {"margin": margin, "pairs": pairs, "right": round(share, 3)}
        for margin, pairs, share in found
        if pairs
    ]


def _leanings(honest: list[Entry], values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """By run: how many places too high it is ranked on average, as a share of all places."""
    off = (ranks(values) - ranks(truth)) / len(honest)
    runs = dict.fromkeys(entry["run"] for entry in honest)
    means = {
        run: float(np.mean([o for o, e in zip(off, honest, strict=True) if e["run"] == run]))
        for run in runs
    }
    return {run: round(mean, 3) for run, mean in sorted(means.items(), key=lambda each: each[1])}


def entry_value(entry: Entry, name: str) -> float:
    """A measure of an entry, or its quality as it is combined today; NaN where there is none."""
    measures = {k: float("nan") if v is None else v for k, v in entry["measures"].items()}
    if name != "quality":
        return measures.get(name, float("nan"))
    return combined(measures, entry.get("whole", 1.0))  # absent only where no image was broken


def _goals(entries: dict[str, dict[str, Entry]]) -> dict[str, Any]:
    goals = {}
    for setting, found in entries.items():
        summary = _summary(found)
        mine = summary["measures"]["quality"]
        others = [row["regret"] for name, row in summary["measures"].items() if name != "quality"]
        goals |= {
            f"{setting}: regret, mIoU points": at_most(mine["regret"], 1.0),
            f"{setting}: weighted Spearman": goal(mine["weighted_spearman"], 0.85),
            f"{setting}: planted failures chosen": at_most(len(summary["planted_chosen"]), 0),
            f"{setting}: best other measure's regret minus ours": goal(
                min(others) - mine["regret"], 0.0
            ),
        }
    return goals


if __name__ == "__main__":
    main()
