"""Choosing among the checkpoints of a run: by quality, and blind to every label of the target."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_validation import add_checkpoint
from uda import selection
from uda.checkpoint import STATE_FILE, WAITING_FILE, checkpoints, step_folder
from uda.config import RuntimeConfig
from uda.journal import Journal
from uda.selection import (
    EVALUATION_FILE,
    QUALITY,
    VALIDATION_FILE,
    Graded,
    best_checkpoints,
    graded,
    has_stalled,
    history,
    is_over,
    seems_over,
    tidy,
)

BY_QUALITY = RuntimeConfig(select_by="quality", keep_best=2, keep_checkpoints=1)


def scored(run: Path, step: int, scalars: Mapping[str, float]) -> Path:
    folder = add_checkpoint(run, step, waits=False)
    result = {"step": step, "data": "d", "scalars": dict(scalars)}
    (folder / EVALUATION_FILE).write_text(json.dumps(result))
    return folder


def log_qualities(run: Path, qualities: Mapping[int, float]) -> None:
    """As the validator does."""
    with Journal(
        run, 0, scalars_file=VALIDATION_FILE, tensorboard_folder="tensorboard/validation"
    ) as journal:
        for step, quality in qualities.items():
            journal.write(step, {QUALITY: quality})


def steps(folders: list[Path]) -> list[int]:
    return [int(folder.name.removeprefix("step-")) for folder in folders]


def test_the_best_come_first_and_of_equals_the_later_one(tmp_path):
    for step, quality in {10: 0.5, 20: 0.7, 30: 0.7, 40: 0.6}.items():
        scored(tmp_path, step, {QUALITY: quality})
    assert steps(best_checkpoints(tmp_path, 9)) == [30, 20, 40, 10]
    assert steps(best_checkpoints(tmp_path, 1)) == [30]
    assert best_checkpoints(tmp_path, 0) == []


def test_an_oracle_score_is_not_looked_at(tmp_path):
    scored(tmp_path, 10, {QUALITY: 0.5, "oracle/miou": 0.1})
    scored(tmp_path, 20, {QUALITY: 0.4, "oracle/miou": 0.9})
    scored(tmp_path, 30, {"oracle/miou": 0.99, "validation/miou": 0.99})
    assert steps(best_checkpoints(tmp_path, 9)) == [10, 20]
    assert graded(step_folder(tmp_path, 30)) is None


@pytest.mark.parametrize(
    "text", ["", "{", '{"step": 5, "data": "d", "error": "no images"}', '{"scalars": {}}']
)
def test_what_has_no_score_is_never_chosen(tmp_path, text):
    folder = add_checkpoint(tmp_path, 5, waits=False)
    assert best_checkpoints(tmp_path, 9) == [], "not scored"
    (folder / EVALUATION_FILE).write_text(text)
    assert best_checkpoints(tmp_path, 9) == []


def test_the_best_stay_without_what_training_would_go_on_from(tmp_path):
    for step, quality in {10: 0.5, 20: 0.9, 30: 0.8, 40: 0.1, 50: 0.2}.items():
        scored(tmp_path, step, {QUALITY: quality})
    tidy(tmp_path, BY_QUALITY)
    assert steps(checkpoints(tmp_path)) == [20, 30, 50]
    has_state = [(folder / STATE_FILE).exists() for folder in checkpoints(tmp_path)]
    assert has_state == [False, False, True]


def test_without_quality_the_last_ones_stay(tmp_path):
    for step, miou in {10: 0.9, 20: 0.5, 30: 0.1}.items():
        scored(tmp_path, step, {"oracle/miou": miou})
    tidy(tmp_path, RuntimeConfig(keep_checkpoints=2))
    assert steps(checkpoints(tmp_path)) == [20, 30]


def test_a_run_that_is_gone_on_with_without_selection_keeps_its_best(tmp_path):
    for step, quality in {10: 0.9, 20: 0.5, 30: 0.1}.items():
        scored(tmp_path, step, {QUALITY: quality})
    tidy(tmp_path, RuntimeConfig(keep_checkpoints=1))
    assert steps(checkpoints(tmp_path)) == [10, 30]


def test_one_that_is_scored_at_that_very_moment_stays(tmp_path, monkeypatch):
    waits = add_checkpoint(tmp_path, 10)
    scored(tmp_path, 20, {QUALITY: 0.1})
    scored(tmp_path, 30, {QUALITY: 0.2})

    def then_it_is_scored(run: Path, count: int) -> list[Path]:
        found = best_checkpoints(run, count)
        (waits / EVALUATION_FILE).write_text(json.dumps({"step": 10, "scalars": {QUALITY: 0.9}}))
        (waits / WAITING_FILE).unlink()
        return found

    monkeypatch.setattr(selection, "best_checkpoints", then_it_is_scored)
    tidy(tmp_path, RuntimeConfig(select_by="quality", keep_checkpoints=1))
    assert waits in checkpoints(tmp_path)
    assert best_checkpoints(tmp_path, 1) == [waits]


def test_a_run_is_over_by_the_scores_up_to_where_it_is(tmp_path):
    """Later lines are of a training that somebody has gone back behind."""
    log_qualities(tmp_path, {10: 0.9, 20: 0.8, 30: 0.7})
    runtime = RuntimeConfig(select_by="quality", patience=2)
    add_checkpoint(tmp_path, 20, waits=False)
    assert not is_over(tmp_path, runtime)
    add_checkpoint(tmp_path, 30, waits=False)
    assert is_over(tmp_path, runtime)


@pytest.mark.parametrize(
    ("qualities", "patience", "expected"),
    [
        ([0.5, 0.6, 0.7], 1, False),
        ([0.7, 0.6], 1, True),
        ([0.7, 0.6], 2, False),
        ([0.7, 0.6, 0.65], 2, True),
        ([0.7, 0.6, 0.71, 0.6], 2, False),
        ([0.7, 0.7], 1, False),  # as good, and later
        ([0.7, 0.6, 0.5], 0, False),
        ([], 1, False),
    ],
)
def test_a_run_has_stalled_when_its_best_is_long_ago(qualities, patience, expected):
    scores = [Graded(10 * i, quality) for i, quality in enumerate(qualities)]
    assert has_stalled(scores, patience) == expected
    assert has_stalled(scores[::-1], patience) == expected, "whatever comes first"


@pytest.mark.parametrize(
    ("waiting", "patience", "expected"),
    [
        ([], 2, True),
        ([30], 2, False),  # it may be the best one, with one score after it
        ([30], 1, True),  # even then
        ([20], 2, True),  # even then there are two after it
        ([20], 3, False),
        ([5], 3, True),  # before the best: it could only have been longer ago
        ([50], 2, True),  # the training's next
        ([30, 50], 2, False),
        ([10, 15, 25, 40], 2, True),  # scored, and about to lose their marks
    ],
)
def test_a_run_has_not_stalled_while_an_older_checkpoint_may_be_the_best(
    waiting, patience, expected
):
    """10 is the best; three came after it."""
    scores = [Graded(10, 0.9), Graded(15, 0.8), Graded(25, 0.7), Graded(40, 0.6)]
    assert has_stalled(scores, patience, waiting=waiting) == expected
    assert has_stalled(scores[::-1], patience, waiting=waiting[::-1]) == expected


@given(
    qualities=st.dictionaries(st.integers(1, 12), st.integers(0, 4), min_size=1),
    waiting=st.sets(st.integers(1, 12)),
    patience=st.integers(1, 4),
    since=st.integers(0, 12),
)
def test_a_stall_is_one_whatever_the_scores_that_are_late(qualities, waiting, patience, since):
    """By trying out every score that each of them could have."""
    known = [Graded(step, float(quality)) for step, quality in qualities.items()]
    late = sorted(step for step in waiting - qualities.keys() if step < max(qualities))[:3]
    answers = [
        has_stalled([*known, *map(Graded, late, late_ones)], patience, since=since)
        for late_ones in itertools.product([-1.0, 2.5, 5.0], repeat=len(late))
    ]
    assert has_stalled(known, patience, waiting=late, since=since) == all(answers)


def test_a_run_is_not_over_while_a_checkpoint_waits_for_another_attempt(tmp_path):
    log_qualities(tmp_path, {10: 0.9, 20: 0.8, 40: 0.7})
    add_checkpoint(tmp_path, 40, waits=False)
    late = add_checkpoint(tmp_path, 30)
    runtime = RuntimeConfig(select_by="quality", patience=2)
    assert (is_over(tmp_path, runtime), seems_over(tmp_path, runtime)) == (False, True)
    (late / WAITING_FILE).unlink()
    assert is_over(tmp_path, runtime), "nobody can score it"
    add_checkpoint(tmp_path, 45)
    assert is_over(tmp_path, runtime), "where it stopped"


def test_the_history_outlives_the_checkpoints(tmp_path):
    with Journal(
        tmp_path, 0, scalars_file=VALIDATION_FILE, tensorboard_folder="tensorboard/validation"
    ) as journal:
        journal.write(10, {QUALITY: 0.5, "oracle/miou": 0.2})
        journal.write(20, {"oracle/miou": 0.3})
        journal.write(30, {QUALITY: 0.4})
    assert history(tmp_path) == [Graded(10, 0.5), Graded(30, 0.4)]
    assert history(tmp_path / "empty") == []


def test_patience_wants_something_to_be_patient_about():
    with pytest.raises(ValueError, match="patience: got 2, want select_by 'quality' with it"):
        RuntimeConfig(patience=2)
