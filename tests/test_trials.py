"""Records of a search: what they know, what they refuse, and that their file gives them back."""

import dataclasses
import json
import math

import numpy as np
import pytest

from cluster.search_file import read_search, write_search
from cluster.trials import Axis, Point, Search, Trial
from uda.types import UserError

AXES = (
    Axis(path="optim.lr", kind="log", low=1e-5, high=1e-2, preset=1e-3),
    Axis(path="losses.a.weight", kind="log", low=0.01, high=1.0, or_zero=True, preset=0),
    Axis(path="teacher.steps", kind="linear", low=1, high=9, whole=True),
    Axis(path="mixing", kind="choice", values=("none", "class"), preset="class"),
    Axis(path="flip", kind="choice", values=(True, False)),
)


def points(*qualities: float | None, oracle: bool = False) -> tuple[Point, ...]:
    """A checkpoint each, at steps 10, 20, ..."""
    return tuple(
        Point(
            step=10 * number,
            quality=quality,
            measures={"consistency": 0.5, "separation": number / 10},
            oracle_miou=number / 20 if oracle else None,
        )
        for number, quality in enumerate(qualities, 1)
    )


def trial(number: int, *qualities: float | None, oracle: bool = False, **given) -> Trial:
    usual = {"changes": {"optim.lr": 1e-4 * number} if number else {}, "status": "finished"}
    curve = points(*qualities, oracle=oracle)
    return Trial(number=number, folder=f"trials/{number:04}", curve=curve, **(usual | given))


def search(*trials: Trial, **given) -> Search:
    usual = {
        "space": "weights",
        "question": "How strong?",
        "preset": "demo",
        "config_digest": "abc",
        "metric": "quality",
        "allow_oracle": False,
        "steps": 100,
        "axes": AXES,
    }
    return Search(trials=trials, **(usual | given))


def some_search() -> Search:
    everything = {"optim.lr": 3e-4, "teacher.steps": 3, "mixing": "class", "flip": True}
    return search(
        trial(0, 0.5, 0.6),
        trial(1, 0.4, None, math.nan, changes=everything, retries=2, minutes=1.25),
        trial(2, 0.3, status="stopped", reason="below the best third"),
        trial(3, status="failed", reason='<b>&"Fehler" 失敗\n\udcff</b>'),
        trial(5, 0.1, status="running"),
    )


def test_the_best_checkpoint_is_of_the_highest_quality_and_of_equals_the_later():
    tried = trial(1, 0.5, 0.7, 0.7, 0.2)
    assert tried.best.step == 30
    assert tried.step == 40
    assert tried.value("quality") == 0.7
    assert tried.value("oracle:miou") is None


def test_the_oracle_has_a_best_of_its_own():
    tried = trial(1, 0.9, 0.1, oracle=True)
    assert tried.best.step == 10
    assert tried.best_by("oracle:miou").step == 20
    assert tried.value("oracle:miou") == 0.1


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_value(nothing):
    point = Point(step=1, quality=nothing, measures={"a": math.nan, "b": 0.5}, oracle_miou=nothing)
    assert (point.quality, point.oracle_miou, point.measures) == (None, None, {"b": 0.5})
    empty = trial(1, nothing, nothing)
    assert empty.best is None
    assert (empty.step, empty.value("quality")) == (20, None)
    assert trial(1).step == 0


def test_numbers_of_numpy_are_written_as_any_other(tmp_path):
    point = Point(step=1, quality=np.float32(0.5), measures={"a": np.float64(0.25)})
    held = search(dataclasses.replace(trial(1), curve=(point,)))
    write_search(held, tmp_path / "s.json")
    assert read_search(tmp_path / "s.json") == held


def test_the_best_trial_has_not_failed_and_of_equals_went_further():
    made = search(
        trial(0, 0.5), trial(1, 0.9, status="failed"), trial(2, 0.1, 0.6), trial(3, 0.6), trial(4)
    )
    assert made.best is made.trials[2]
    assert made.hand_set is made.trials[0]
    assert search().best is None
    assert search(trial(1, None)).best is None
    assert search(trial(1, None)).hand_set is None


def test_a_trial_takes_its_place_by_number():
    made = search(trial(1), trial(3))
    assert [t.number for t in made.with_trial(trial(2)).trials] == [1, 2, 3]
    again = made.with_trial(trial(3, 0.5))
    assert [t.value("quality") for t in again.trials] == [None, 0.5]
    assert again.best is again.trials[1]
    assert made.best is None


def test_what_there_is_to_count():
    made = some_search()
    assert made.num_by_status == {"running": 1, "finished": 2, "stopped": 1, "failed": 1}
    assert made.paths == tuple(axis.path for axis in AXES)
    assert search(trial(1, changes={"new.path": 1})).paths[-1] == "new.path"
    assert made.values_of(made.trials[0]) == {
        "optim.lr": 1e-3, "losses.a.weight": 0, "mixing": "class"
    }  # fmt: skip


def test_the_oracle_is_refused_where_it_is_not_allowed():
    seen = trial(4, 0.5, oracle=True)
    with pytest.raises(UserError, match="trial 4: got oracle values, want none"):
        search(seen)
    with pytest.raises(UserError, match="trial 4"):
        search().with_trial(seen)
    with pytest.raises(UserError, match="metric: got oracle:miou, want quality"):
        search(metric="oracle:miou")
    with pytest.raises(UserError, match="got oracle_iou, want none that needs labels"):
        Point(step=1, quality=0.5, measures={"oracle_iou": 0.5})
    allowed = search(seen, allow_oracle=True, metric="oracle:miou")
    assert allowed.best is seen


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"status": "lost"}, "status: got 'lost'"),
        ({"curve": points(0.1, 0.2)[::-1]}, "ascending"),
        ({"curve": points(0.1) * 2}, "ascending"),
        ({"folder": ""}, "folder: got ''"),
        ({"folder": "../other"}, "folder"),
        ({"folder": "/tmp/x"}, "folder"),
        ({"minutes": math.nan}, "not finite"),
        ({"changes": {"optim.lr": math.inf}}, "not finite"),
    ],
)
def test_a_trial_that_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(trial(1), **given)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "square"},
        {"kind": "choice"},
        {"kind": "log", "low": 0.0, "high": 1.0},
        {"kind": "linear", "low": 2.0, "high": 1.0},
        {"kind": "linear", "low": 0.0, "high": 1.0, "preset": "much"},
    ],
)
def test_an_axis_that_cannot_be_is_refused(given):
    with pytest.raises(ValueError, match="got"):
        Axis(path="a", **given)


def test_two_trials_of_a_number_are_refused():
    with pytest.raises(ValueError, match="numbers"):
        search(trial(1), trial(1))


@pytest.mark.parametrize(
    "made",
    [
        search(),
        some_search(),
        search(trial(1, 0.5, oracle=True), allow_oracle=True, metric="oracle:miou"),
    ],
)
def test_a_file_gives_back_what_was_written(tmp_path, made):
    file = tmp_path / "new" / "search.json"
    write_search(made, file)
    write_search(made, file)  # over the first
    assert read_search(file) == made
    assert [path.name for path in file.parent.iterdir()] == ["search.json"]
    assert ("ORACLE" in file.read_text()) == made.allow_oracle
    types = [[type(v) for v in t.changes.values()] for t in read_search(file).trials]
    assert types == [[type(v) for v in t.changes.values()] for t in made.trials]


def edited(tmp_path, edit):
    file = tmp_path / "search.json"
    write_search(some_search(), file)
    plain = json.loads(file.read_text())
    edit(plain)
    file.write_text(json.dumps(plain))
    return file


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p: p.pop("format"), "got another format"),
        (lambda p: p.update(format="uda-search-0"), "got another format"),
        (lambda p: p.pop("steps"), "steps missing or unknown"),
        (lambda p: p.update(more=1), "more missing or unknown"),
        (lambda p: p.update(steps="many"), "steps: got 'many', want int"),
        (lambda p: p.update(steps=True), "steps: got 'True', want int"),
        (lambda p: p.update(metric="miou"), "metric: got 'miou', want quality or oracle:miou"),
        (lambda p: p.update(trials={}), "trials: got '{}', want"),
        (lambda p: p["trials"][0].update(status=[]), "trials.0.status"),
        (lambda p: p["trials"][0].update(number=7), "ascending"),
        (lambda p: p["trials"][0].update(folder="../x"), "folder"),
        (lambda p: p["trials"][1]["changes"].update({"a.b": None}), "changes.a.b"),
        (lambda p: p["trials"][0]["curve"][0].update(oracle_miou=0.5), "oracle values"),
        (lambda p: p["trials"][0]["curve"][0]["measures"].update(oracle=0.5), "needs labels"),
        (lambda p: p["trials"][0].update(minutes=math.nan), "NaN"),
        (lambda p: p["trials"][0].update(minutes=10**400), "cannot be read"),
    ],
)
def test_a_file_that_was_changed_is_refused_in_one_line(tmp_path, edit, message):
    file = edited(tmp_path, edit)
    with pytest.raises(UserError, match=r"search .*search\.json: cannot be read") as caught:
        read_search(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', "[" * 100_000, "\0"])
def test_a_foreign_file_is_refused_in_one_line(tmp_path, text):
    file = tmp_path / "search.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"search\.json: cannot be read") as caught:
        read_search(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "search.json").write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "search.json", tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_search(file)
