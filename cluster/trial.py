"""One trial of a search, for Ray Tune: a run of ours that tells its scores one after another.

Tune's actor only passes on, and imports next to nothing. The run has an actor of its own, outside
of Tune's placement group: Ray would put all that is started inside of a group into it as well,
where there is no room.
"""

import contextlib
import threading
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cluster.leftovers import remove_placement

TRIAL_CPUS = 0.01  # of Tune's actor, for Tune wants some

_THREADS = 3  # who waits for a score must not keep others from asking to stop
_POLL_S = 0.5
_STOP_S = 600  # for a run to save and stop


class TrialFailed(Exception):  # noqa: N818  # named as Ray's and ours are not: it is no bug
    """Why a trial has failed, in one line."""


class TuneTrial(tune.Trainable):
    """A trial as Tune sees it: `step` lasts until the next checkpoint of the run is scored.

    Results have the fields of `cluster.trials.Point`. The last one, `done`, repeats them and says
    how the run has `ended`: "finished", or "stopped" where it was asked to. A mistake of the user's
    is no reason to try again: then it has a `mistake` in their place.
    """

    def setup(self, config: dict[str, Any], job: "list[ray.ObjectRef[Any]] | None" = None) -> None:
        assert job is not None
        self._folder = Path(config["folder"])
        self._last: dict[str, Any] = {"step": 0}
        actor: Any = ray.remote(TrialRun)
        options = {"num_cpus": 0, "max_concurrency": _THREADS, "scheduling_strategy": "DEFAULT"}
        self._run = actor.options(**options).remote(job[0], str(self._folder))

    def step(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = ray.get(self._run.next_score.remote())
        except RayTaskError as error:
            raise TrialFailed(_line(error.cause)) from None
        except RayError as error:
            raise TrialFailed(f"the process of its run has ended: {_line(error)}") from None
        self._last = {**self._last, **found}
        return dict(self._last)

    def cleanup(self) -> None:
        """Lets the run save and stop, so that Ray Train gives back its workers' place itself."""
        with contextlib.suppress(RayError, GetTimeoutError):  # it has ended, one way or the other
            ray.get(self._run.stop.remote(), timeout=_STOP_S)
        ray.kill(self._run)
        remove_placement(self._folder)


class TrialRun:
    """Trains in a thread, in a process that has the CPUs' libraries loaded for it."""

    def __init__(self, job: Any, folder: str) -> None:
        self._job = job
        self._folder = Path(folder)
        self._news, self._ended = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._is_finished = False
        self._told_until = 0  # the step of the last scores that were passed on
        threading.Thread(target=self._work, name="run", daemon=True).start()

    def next_score(self) -> dict[str, Any]:
        """The scores of the next checkpoint, from the run's first one on; waits for them."""
        from cluster.trial_run import scores_after
        from uda.types import UserError

        while True:
            self._news.clear()
            is_over = self._ended.is_set()  # before looking: then nothing comes later
            known = self._told_until
            if found := scores_after(self._folder, known, allow_oracle=self._job.allow_oracle):
                self._told_until = found["step"]
                return {**found, "done": False}
            if is_over and isinstance(self._error, UserError):
                return {"done": True, "mistake": " ".join(str(self._error).split())}
            if is_over and self._error is not None:
                raise self._error
            if is_over:
                return {"done": True, "ended": "finished" if self._is_finished else "stopped"}
            self._news.wait()

    def stop(self) -> None:
        """Asks the run to save and stop, and waits until it has."""
        from cluster.worker import STOP_FILE

        while not self._ended.wait(_POLL_S):
            if self._folder.is_dir():
                (self._folder / STOP_FILE).touch()

    def _work(self) -> None:
        from cluster.trial_run import train_trial

        try:
            self._is_finished = train_trial(
                self._job, self._folder, lambda _: self._news.set(), self._go_back_to
            )
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()
            self._news.set()

    def _go_back_to(self, step: int) -> None:
        self._told_until = step


def _line(error: BaseException) -> str:
    from uda.types import WorkError  # not for nothing: it brings PyTorch

    if isinstance(error, WorkError):  # ours are sentences
        return " ".join(str(error).split())
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"[:300]
