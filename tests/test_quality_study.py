"""How a score without labels is judged, and what it is tempted with."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.small_checkpoint import write_checkpoint
from tests.small_models import small_model
from tests.studies import _experiments, _fit, _quality_page, quality
from tests.studies._correlation import (
    ranked_right,
    ranks,
    regret,
    spearman,
    weighted_spearman,
)
from tests.studies._early_stop import early_stops, saved
from tests.studies._population import (
    PLANTED,
    POPULATION,
    Candidate,
    all_candidates,
    candidates,
)
from tests.test_score import healthy
from tests.tiny import shards
from uda.data.examples import open_examples
from uda.data.rows import ShardRows
from uda.quality import Statistics
from uda.quality.score import GUARDS, WEIGHTS, score


def test_ranks_share_their_mean_where_values_are_alike():
    values = np.array([0.3, 0.1, 0.3, np.nan, 0.2])
    assert ranks(values).tolist() == [4.5, 2.0, 4.5, 1.0, 3.0]


def test_rank_correlations_of_known_cases():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    for correlation in (spearman, weighted_spearman):
        assert correlation(truth**3, truth) == pytest.approx(1.0)
        assert correlation(-truth, truth) == pytest.approx(-1.0)
        assert np.isnan(correlation(np.ones(4), truth)), "it tells nothing apart"
    assert spearman(np.array([2.0, 1.0, 3.0, 4.0]), truth) == pytest.approx(0.8)  # 1 - 6 * 2 / 60


def test_weighted_spearman_by_its_definition():
    draws = np.random.default_rng(0)
    score, truth = draws.random((2, 20))
    x, y = score.argsort().argsort() + 1.0, truth.argsort().argsort() + 1.0
    w = np.maximum(x, y) ** 2
    covariance = np.cov(np.stack([x, y]), aweights=w)
    expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert weighted_spearman(score, truth) == pytest.approx(expected)


def test_a_mistake_among_the_good_ones_costs_more():
    truth = np.arange(10.0)
    low, high = truth.copy(), truth.copy()
    low[[0, 1]] = low[[1, 0]]
    high[[8, 9]] = high[[9, 8]]
    assert spearman(low, truth) == pytest.approx(spearman(high, truth))
    assert weighted_spearman(low, truth) > weighted_spearman(high, truth)


def test_regret_is_that_of_the_worst_choice_that_the_score_allows():
    truth = np.array([50.0, 48.0, 30.0])
    assert regret(np.array([0.9, 0.1, 0.2]), truth) == 0
    assert regret(np.array([0.1, 0.9, 0.2]), truth) == 2
    assert regret(np.array([0.9, 0.1, 0.9]), truth) == 20, "a tie is no knowledge"
    assert regret(np.array([np.nan, 0.1, 0.2]), truth) == 20, "NaN is never chosen"


def test_pairs_in_true_order_by_hand():
    score, truth = np.array([0.1, 0.2, 0.4, 0.4]), np.array([10.0, 30.0, 20.0, 40.0])
    assert ranked_right(score, truth, 0.0) == (5, 0.8), "equal scores say nothing"
    assert ranked_right(score, truth, 0.15) == (4, 0.75)
    assert ranked_right(score, truth, 0.25) == (2, 1.0)
    pairs, share = ranked_right(score, truth, 0.5)
    assert pairs == 0
    assert np.isnan(share)


def test_runs_that_are_flattered_by_hand():
    entries = [entry("a", 1, 10.0, 0.9), entry("b", 1, 20.0, 0.2), entry("b", 2, 30.0, 0.3)]
    summary = quality._summary({str(i): e for i, e in enumerate(entries)})
    assert summary["leanings"] == {"b": round(-1 / 3, 3), "a": round(2 / 3, 3)}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_failure_changes_the_network(name):
    torch.manual_seed(0)
    model = small_model().eval()
    planted = copy.deepcopy(model)
    with torch.no_grad():
        PLANTED[name](planted)
        images = torch.randn(1, 3, 64, 64)
        before, after = model(images).logits, planted(images).logits
    assert not torch.equal(before, after)
    assert after.isfinite().all()
    if name == "logits_times_5":
        assert torch.equal(before.argmax(1), after.argmax(1)), "it says the same, surer"
    if name == "building_is_vegetation":
        assert torch.equal(after[:, 2], before[:, 8])
        assert torch.equal(after[:, 8], before[:, 2])
    if name == "one_class":
        assert (after.argmax(1) == 0).all()


def test_no_network_that_saw_target_labels_is_a_candidate():
    for setting, experiments in POPULATION.items():
        assert experiments
        assert not [e.name for e in experiments if e.is_oracle], setting


def test_candidates_are_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(_experiments, "FOLDER", tmp_path)
    few = [e for e in POPULATION["streets"] if e.name in ("start", "source_only", "full")]
    monkeypatch.setitem(POPULATION, "streets", few)
    assert list(candidates("streets", (0,))) == []
    (full,) = [e for e in POPULATION["streets"] if e.name == "full"]
    full.network(0).mkdir(parents=True)
    found = [c.key for c in candidates("streets", (0, 1))]
    assert found == ["full-0-400", *(f"full-0-400-{name}" for name in PLANTED)]


def entry(run: str, step: int, miou: float, consistency: float, planted: str = "") -> dict:
    measures = {"consistency": consistency, **dict.fromkeys(WEIGHTS, consistency)}
    measures |= dict.fromkeys(GUARDS, 1.0)
    named = {"run": run, "seed": 0, "step": step, "planted": planted}
    return {**named, "measures": measures, "oracle_miou": miou}


def test_broken_images_count_in_a_quality_that_is_combined_again():
    """As in `uda.quality.score`, of which an entry is made."""
    whole = healthy()
    part = dataclasses.replace(whole, target=whole.target + Statistics(images=1, broken=1))
    for evidence, share in ((whole, 1.0), (part, 4 / 5)):
        result = score(evidence)
        kept = json.loads(json.dumps({**result.json(), "whole": evidence.target.whole}))
        assert kept["whole"] == pytest.approx(share)
        assert quality.entry_value(kept, "quality") == result.quality
        assert quality.entry_value(kept, "consistency") == result.measures["consistency"]
        assert np.isnan(quality.entry_value(kept, "agreement"))


def test_a_broken_network_is_not_chosen_for_the_images_that_are_left():
    entries = [entry("a", 100, 40.0, 0.6), entry("b", 100, 5.0, 0.9) | {"whole": 1 / 64}]
    summary = quality._summary({str(i): e for i, e in enumerate(entries)})
    assert summary["measures"]["quality"]["regret"] == 0
    assert summary["measures"]["consistency"]["regret"] == 35


def test_entries_of_runs_that_are_gone_leave_the_table(tmp_path, monkeypatch):
    """Gone from the population, or trained with other settings since; kept ones need no run."""
    few = [e for e in POPULATION["streets"] if e.name in ("source_only", "full")]
    monkeypatch.setitem(POPULATION, "streets", few)
    monkeypatch.setattr(quality, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(quality, "NEW", tmp_path / "new")
    full = next(c for c in all_candidates("streets", (0,)) if c.key == "full-0-400")
    folder = full.folder.parent.name
    good = {"folder": folder, "notes": []}
    kept = {
        "full-0-400": good,
        "full-0-400-one_class": good,
        "full-0-200": good | {"folder": f"full-0-{'0' * 12}"},
        "full-0-333": good,
        "full-9-400": good,
        "gone-0-400": good | {"folder": f"gone-0-{'0' * 12}"},
        "full-0-100": good | {"notes": ["scores are not finite in 1 of 64 target images"]},
    }
    new = {"full-0-400": good | {"folder": "old"}, "full-0-300": good}
    for name, entries in (("kept", kept), ("new", new)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "streets-0-of-1.json").write_text(json.dumps(entries))
    assert set(quality.entries_of("streets")) == {
        "full-0-400",
        "full-0-400-one_class",
        "full-0-300",
    }
    assert quality.entries_of("streets")["full-0-400"]["folder"] == folder


def test_a_candidate_is_scored_with_its_impressions_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "NEW", tmp_path / "new")
    folder = write_checkpoint(tmp_path / "full-0-abc" / "step-0000400")
    candidate = Candidate(run="full", seed=0, step=400, folder=folder)
    source, target = (ShardRows(shards(d), labels=d == "game") for d in ("game", "camera"))
    found = quality._scored(candidate, source, target, open_examples(shards("camera")), "streets")
    assert (found["folder"], found["whole"]) == ("full-0-abc", 1.0)
    assert quality.entry_value(found, "quality") == found["quality"]
    kept = np.load(tmp_path / "new" / "streets-full-0-400.npz")
    assert sorted(map(int, kept)) == list(range(8))
    entries = {candidate.key: found}
    quality._agreements("streets", entries)
    assert entries[candidate.key]["measures"]["agreement"] > 0, "with itself"


def test_the_summary_knows_what_was_chosen():
    entries = [
        entry("a", 100, 40.0, 0.6),
        entry("a", 200, 44.0, 0.7),
        entry("b", 100, 30.0, 0.5),
        entry("b", 200, 20.0, 0.3),
        entry("a", 200, 2.0, 0.9, "one_class"),
    ]
    summary = quality._summary({str(i): e for i, e in enumerate(entries)})
    assert (summary["checkpoints"], summary["runs"], summary["planted"]) == (4, 2, 1)
    assert summary["measures"]["quality"]["regret"] == 0
    assert summary["measures"]["quality"]["spearman"] == 1
    assert summary["measures"]["last"]["regret"] == 44 - (44 + 20) / 2
    assert summary["planted_chosen"] == ["one_class"]


class TestEarlyStops:
    """Replayed on whole runs; the rule is that of training."""

    def stops(self, *runs: list[tuple[float, float]], patience: int = 1) -> list[dict]:
        entries = [
            entry(f"run{number}", 100 * step, miou, quality_then)
            for number, points in enumerate(runs)
            for step, (quality_then, miou) in enumerate(points, 1)
        ]
        return early_stops(entries, lambda each: each["measures"]["consistency"], patience)

    def test_a_run_ends_where_its_quality_has_fallen_and_keeps_its_best(self):
        falling = [(0.5, 30.0), (0.6, 40.0), (0.4, 20.0), (0.9, 10.0)]
        (stop,) = self.stops(falling)
        assert stop == {"run": "run0", "seed": 0, "share": 0.75, "kept": 40.0, "last": 10.0}
        (stop,) = self.stops(falling, patience=2)
        assert (stop["share"], stop["kept"]) == (1.0, 10.0), "it rose again in time"

    def test_a_run_that_rises_is_trained_to_its_end(self):
        (stop,) = self.stops([(0.5, 30.0), (0.6, 40.0), (0.7, 35.0)])
        assert (stop["share"], stop["kept"]) == (1.0, 35.0)

    def test_all_together(self):
        stops = self.stops([(0.5, 30.0), (0.4, 20.0), (0.4, 20.0), (0.4, 20.0)],
                           [(0.5, 30.0), (0.4, 31.0)],
                           [(0.5, 30.0), (0.6, 31.0)])  # fmt: skip
        assert saved(stops) == {
            "runs": 3,
            "stopped": 1,
            "steps_saved": round(0.5 / 3, 3),
            "mean_difference": 3.0,
            "as_good": 2,
            "worst_difference": -1.0,
        }


class TestPage:
    """What people read of a study; here of made-up numbers."""

    def entry(self, run: str, step: int, certainty: float, miou: float, planted: str = "") -> dict:
        good = dict.fromkeys(GUARDS, 1.0)
        measures = dict.fromkeys(WEIGHTS, certainty) | good | {"certainty": certainty}
        return {
            "run": run,
            "seed": 0,
            "step": step,
            "planted": planted,
            "measures": measures,
            "oracle_miou": miou,
        }

    def record(self) -> dict:
        entries = {
            str(number): self.entry(*values)
            for number, values in enumerate(
                [
                    ("full", 100, 0.4, 30.0),
                    ("full", 200, 0.6, 41.0),
                    ("bad_rate", 100, 0.2, 12.0),
                    ("bad_rate", 200, 0.1, 2.0),
                    ("full", 200, 0.3, 1.0, "one_class"),
                    ("full", 200, 0.9, 35.0, "logits_times_5"),
                ]
            )
        }
        summary = quality._summary(entries)
        return {
            "streets": {**summary, "candidates": [*entries.values()]},
            "goals": quality._goals({"streets": entries}),
            "command": "make study-quality",
            "machine": "a machine",
            "commit": "0" * 7,
        }

    def test_it_says_what_was_chosen_and_what_was_missed(self):
        text = _quality_page.page(self.record())
        assert "4 checkpoints of 2 runs, true mIoU 2.0 to 41.0 %" in text
        assert "| **quality**, the score of `uda score` | 1.00 | 1.00 | 0.00 |" in text
        assert "| one class | 0.300 | 1.0 | no |" in text
        assert "| logits times 5 | 0.900 | 35.0 | **yes** |" in text
        assert "planted failures chosen: 1.00" in text
        assert "0 of 2 runs would have ended early" in text
        assert "| 0.05 | 6 | 100 % |" in text
        assert "too low, by so many of all places on average: full (+0 %), bad_rate (+0 %);" in text

    def test_it_is_drawn(self, tmp_path):
        _quality_page.draw(self.record(), tmp_path)
        assert "<svg" in (tmp_path / "quality-streets.svg").read_text()


def test_weights_are_chosen_by_ranking_choice_and_failures():
    entry = TestPage().entry
    entries = {
        "a": entry("full", 1, 0.4, 30.0),
        "b": entry("full", 2, 0.6, 41.0),
        "c": entry("bad", 1, 0.5, 10.0),
    }
    for number, one in enumerate(entries.values()):
        one["measures"] |= {"information": (0.5, 0.9, 0.1)[number], "consistency": 0.5}
    assert _fit.worth({"information": 1.0}, entries) == pytest.approx(1.0)
    assert _fit.worth({"information": 0.5, "consistency": 0.5}, entries) == pytest.approx(1.0)
    assert _fit.worth({"certainty": 1.0}, entries) < 1.0, "it ranks the bad one too high"
    planted = entry("full", 2, 0.7, 3.0, "one_class")
    planted["measures"] |= {"information": 0.95}
    assert _fit.worth({"information": 1.0}, entries | {"d": planted}) == pytest.approx(0.0)


def test_all_weights_are_tried():
    tried = list(_fit.choices())
    assert all(sum(weights.values()) == 1 and len(weights) <= 3 for weights in tried)
    assert (
        len({tuple(sorted(weights.items())) for weights in tried})
        == len(tried)
        == (
            13 * 1 + 78 * 3 + 286 * 3  # one, two or three of 13 measures, in quarters
        )
    )
