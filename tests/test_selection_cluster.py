"""Quality beside a training on Ray: the best checkpoints stay, a run that gets worse ends early."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.test_validation import add_checkpoint
from tests.tiny import shards, tiny_config
from uda.checkpoint import (
    STATE_FILE,
    WAITING_FILE,
    checkpoints,
    fades_before,
    last_step,
    step_of,
    waiting_checkpoints,
)
from uda.journal import read_scalars
from uda.run import Run, open_run
from uda.selection import QUALITY, best_checkpoints, history, read_evaluation
from uda.types import UserError, WorkError

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # imports it, and waits for a thread

BY_QUALITY = {
    "steps": 40,
    "runtime.checkpoint_every": 10,
    "runtime.keep_checkpoints": 1,
    "runtime.select_by": "quality",
}


def opened(folder: Path, method: str = "source_only", **changes: object) -> Run:
    config = tiny_config(method, BY_QUALITY | changes)
    return open_run(config, folder, shards("game"), shards("camera"))


def test_without_labels_there_is_quality_or_nothing(tmp_path):
    from cluster.scores import open_validation

    assert open_validation(opened(tmp_path, **{"runtime.select_by": "last"}), None) is None
    by_quality = open_validation(opened(tmp_path), None)
    assert by_quality.shards is None
    assert by_quality.data == "none quality"
    both = open_validation(opened(tmp_path), shards("camera"))
    assert both.data.endswith(" quality")
    assert both.unlabelled == by_quality.unlabelled


@pytest.mark.parametrize(("patience", "stops"), [(2, True), (3, False), (0, False)])
def test_a_run_whose_quality_falls_is_asked_to_stop(tmp_path, monkeypatch, patience, stops):
    """0.9, 0.8, 0.7: two in a row below the best one."""
    from cluster import scores
    from cluster.worker import STOP_FILE

    run = opened(tmp_path / "run", **{"runtime.patience": patience})
    run.folder.mkdir()
    made_up = iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(scores, "score", lambda *_: {QUALITY: next(made_up), "oracle/miou": 0.1})
    with scores.open_validator(run, scores.open_validation(run, None)) as validator:
        for step in (10, 20, 30):
            add_checkpoint(run.folder, step)
            while waiting_checkpoints(run.folder):
                time.sleep(0.01)
        assert (run.folder / STOP_FILE).exists() == stops
        validator.finish()
    assert [grade.quality for grade in history(run.folder)] == [0.9, 0.8, 0.7]
    assert [folder.name for folder in checkpoints(run.folder)] == ["step-0000010", "step-0000030"]
    assert not (run.folder / STOP_FILE).exists(), "nothing is left to stop a later start"
    said, is_done = scores.outcome(run, 30)
    assert is_done == stops
    if stops:
        assert "quality has not risen for 2 checkpoints" in said
        assert said.endswith("step-0000010 (0.900)")
    else:
        assert said == "stopped at step 30 of 40; continue with --resume"


@pytest.mark.parametrize(("late", "stops"), [(0.6, True), (0.95, False)])
def test_a_stop_waits_for_the_other_attempt_at_an_older_score(tmp_path, monkeypatch, late, stops):
    """The scores that are there say so before it, and may be wrong."""
    from cluster import scores
    from cluster.worker import STOP_FILE

    run = opened(tmp_path / "run", **{"runtime.patience": 2})
    made_up = {10: 0.9, 20: 0.8, 30: late, 40: 0.7}
    asked: dict[int, bool] = {}  # whether a stop was asked for when a score was tried

    def score(folder: Path, *_: object) -> dict[str, float]:
        step, is_first = step_of(folder), step_of(folder) not in asked
        asked[step] = (run.folder / STOP_FILE).exists()
        if step == 30 and is_first:
            raise WorkError("ended 3 actors")
        return {QUALITY: made_up[step]}

    monkeypatch.setattr(scores, "score", score)
    monkeypatch.setattr("cluster.validation._RETRY_S", 0)
    for step in made_up:
        add_checkpoint(run.folder, step)
    with scores.open_validator(run, scores.open_validation(run, None)) as validator:
        validator.finish()
        assert (run.folder / STOP_FILE).exists() == stops
    assert [grade.step for grade in history(run.folder)] == [10, 20, 30, 40]
    assert list(asked) == [10, 20, 30, 40]
    assert not any(asked.values())


FADE = {"runtime.patience": 1, "runtime.on_stall": "fade"}


def faded(run: Path, step: int, *faded_at: int, waits: bool = True) -> None:
    """A hollow checkpoint whose report says when the levels were faded."""
    folder = add_checkpoint(run, step, waits=False)
    (folder / "report.json").write_text(json.dumps({"faded_at": faded_at}))
    if waits:
        (folder / WAITING_FILE).touch()
    while waiting_checkpoints(run):
        time.sleep(0.01)


def test_a_run_whose_quality_falls_is_asked_to_fade_once_for_each_stall(
    tmp_path, monkeypatch, capsys
):
    from cluster import scores
    from cluster.worker import FADE_FILE, STOP_FILE, fades_asked

    run = opened(tmp_path / "run", "adversarial", **FADE)
    run.folder.mkdir()
    (run.folder / FADE_FILE).write_text("7")  # a start that was killed has left it
    made_up = {5: 0.9, 10: 0.8, 15: 0.7, 20: 0.6, 25: 0.5, 30: 0.95, 40: 0.1}
    monkeypatch.setattr(scores, "score", lambda folder, *_: {QUALITY: made_up[step_of(folder)]})
    asked = {}
    with scores.open_validator(run, scores.open_validation(run, None)) as validator:
        # Workers follow at step 17, and at 26; what was trained before tells nothing of it.
        for step, fades in {5: (), 10: (), 15: (), 20: (17,), 25: (17,), 30: (17, 26)}.items():
            faded(run.folder, step, *fades)
            asked[step] = fades_asked(run.folder)
        faded(run.folder, 40, 17, 26)
        validator.finish()
        assert fades_asked(run.folder) == 2, "all steps are done"
        assert not (run.folder / STOP_FILE).exists()
    assert asked == {5: 0, 10: 1, 15: 1, 20: 2, 25: 2, 30: 2}
    assert not (run.folder / FADE_FILE).exists()
    said = [line for line in capsys.readouterr().err.splitlines() if "faded" in line]
    assert said == [
        "uda: quality has not risen for 1 checkpoints: adversarial weights are faded to "
        f"{factor} of their own"
        for factor in (0.5, 0.25)
    ]
    assert "ended before" not in scores.outcome(run, 40)[0]


def test_a_fade_that_was_asked_for_in_vain_is_asked_for_again(tmp_path, monkeypatch):
    """The run was stopped before its workers had logged another line."""
    from cluster import scores
    from cluster.worker import fades_asked

    run = opened(tmp_path / "run", "adversarial", **FADE)
    made_up = {10: 0.9, 20: 0.8, 30: 0.7}
    monkeypatch.setattr(scores, "score", lambda folder, *_: {QUALITY: made_up[step_of(folder)]})
    validation = scores.open_validation(run, None)
    with scores.open_validator(run, validation):
        for step in (10, 20):
            faded(run.folder, step)
        assert fades_asked(run.folder) == 1
    with scores.open_validator(run, validation):
        assert fades_asked(run.folder) == 1
        faded(run.folder, 30, 25)
    with scores.open_validator(run, validation):
        assert fades_asked(run.folder) == 2, "30 has not risen since"
    faded(run.folder, 35, 25, 31, waits=False)
    with scores.open_validator(run, validation):
        assert fades_asked(run.folder) == 0, "nothing has a score since"


def test_labels_that_cannot_be_read_decide_nothing(tmp_path, monkeypatch, capsys):
    from cluster import scores

    def refuse(*_: object, **__: object) -> None:
        raise UserError("row 3: does not read")

    found = SimpleNamespace(quality=0.5, measures={"consistency": 0.4})
    monkeypatch.setattr(scores, "score_checkpoint", lambda *_, **__: found)
    monkeypatch.setattr(scores, "evaluate", refuse)
    both = scores.open_validation(opened(tmp_path), shards("camera"))
    said = scores.score(Path("step-0000001"), both, None)
    assert said == {QUALITY: 0.5, "quality/consistency": 0.4}
    assert "step-0000001 has no score by labels: row 3: does not read" in capsys.readouterr().err


@pytest.mark.parametrize(("last", "goes_on"), [(0.1, False), (0.95, True)])
def test_a_run_that_has_ended_early_is_gone_on_with_only_if_its_last_score_says_so(
    tmp_path, monkeypatch, last, goes_on
):
    """The checkpoint of the stop itself is scored first, as all others are."""
    from cluster import scores, train

    run = opened(tmp_path / "run", **{"runtime.patience": 2})
    made_up = {10: 0.9, 20: 0.8, 30: 0.7, 35: last}
    monkeypatch.setattr(scores, "score", lambda folder, *_: {QUALITY: made_up[step_of(folder)]})
    fitted: list[int] = []

    def fit(*_: object) -> int:
        """As the workers do: the first time to where they are asked to stop."""
        fitted.append(last_step(run.folder))
        if len(fitted) == 1:
            for step in (10, 20, 30):
                add_checkpoint(run.folder, step)
                while waiting_checkpoints(run.folder):
                    time.sleep(0.01)
            add_checkpoint(run.folder, 35)
            return 35
        return 40

    monkeypatch.setattr(train, "_fit", fit)
    validation = scores.open_validation(run, None)
    place = train.Scaling(num_workers=1)
    assert train.train(run, place, validation=validation) == 35
    assert [grade.step for grade in history(run.folder)] == [10, 20, 30, 35]
    assert waiting_checkpoints(run.folder) == []
    assert train.train(run, place, validation=validation) == (40 if goes_on else 35)
    assert len(fitted) == (2 if goes_on else 1)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_a_real_training_keeps_its_best(ray_local: None, tmp_path: Path, capsys) -> None:
    from cluster.__main__ import main
    from cluster.pool import ActorPool
    from cluster.score import score_checkpoint

    out, file = tmp_path / "run", tmp_path / "config.json"
    file.write_text(tiny_config("source_only", BY_QUALITY).to_json())
    words = ["train", file, "--source", shards("game"), "--target", shards("camera")]
    assert main([str(word) for word in [*words, "--out", out, "--workers", 2]]) == 0
    grades = history(out)
    assert [grade.step for grade in grades] == [10, 20, 30, 40]
    best = max(grades, key=lambda grade: (grade.quality, grade.step))
    (chosen,) = best_checkpoints(out, 1)
    assert f"best by quality: {chosen} ({best.quality:.3f})" in capsys.readouterr().out
    assert int(chosen.name.removeprefix("step-")) == best.step
    assert {folder.name for folder in checkpoints(out)} == {chosen.name, "step-0000040"}
    assert (checkpoints(out)[-1] / STATE_FILE).exists()
    logged = read_evaluation(chosen)["scalars"]
    assert not [tag for tag in logged if not tag.startswith("quality/")], "no oracle anywhere"
    with ActorPool(actors=1) as pool:
        again = score_checkpoint(chosen, shards("game"), shards("camera"), pool=pool)
    assert again.quality == logged[QUALITY]


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_a_real_training_fades_and_goes_on(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """By scores that fall; two workers follow at the same step, or their weights would part."""
    from cluster import scores
    from cluster.__main__ import main
    from cluster.worker import FADE_FILE

    monkeypatch.setattr(scores, "score", lambda folder, *_: {QUALITY: 1 / step_of(folder)})
    out, file = tmp_path / "run", tmp_path / "config.json"
    changes = BY_QUALITY | FADE | {"steps": 120, "runtime.log_every": 2}
    file.write_text(tiny_config("adversarial", changes).to_json())
    words = ["train", file, "--source", shards("game"), "--target", shards("camera")]
    assert main([str(word) for word in [*words, "--out", out, "--workers", 2]]) == 0
    said = capsys.readouterr()
    assert f"{out}: 120 steps done" in said.out
    assert "adversarial weights are faded to 0.5 of their own" in said.err
    faded_at = fades_before(out)
    assert faded_at
    assert all(step % 2 == 0 and step > 20 for step in faded_at), "two scores, then a line"
    for line in read_scalars(out):
        factor = 0.5 ** sum(line["step"] > step for step in faded_at)
        assert line["levels/factor"] == factor
        fooling = factor * 0.01 * line["loss/output/fooling"]
        total = line["loss/supervised"] + fooling + line["loss/output/discriminator"]
        assert line["loss/total"] == pytest.approx(total, rel=1e-5)
    assert not (out / FADE_FILE).exists()
