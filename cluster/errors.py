"""What a failed training run tells its user: one line, and the whole trace in a file."""

from pathlib import Path

from ray.train import TrainingFailedError

from uda.loop import TrainingError
from uda.types import UserError

TRACE_FILE = "error.log"
_INPUT_ERROR_FILE = "INPUT_ERROR"


def keep_input_error(run: Path, error: UserError) -> None:
    """Notes for the other workers, and for those of the next attempt, that the input is wrong.

    Ray restarts the workers whatever the reason of their end was, and this one would come again.
    """
    (run / _INPUT_ERROR_FILE).write_text(str(error))


def kept_input_error(run: Path) -> UserError | None:
    """The mistake that an earlier attempt of this run met, if it did."""
    file = run / _INPUT_ERROR_FILE
    return UserError(file.read_text()) if file.exists() else None


def forget_errors(run: Path) -> None:
    for name in (_INPUT_ERROR_FILE, TRACE_FILE):
        (run / name).unlink(missing_ok=True)


def plain_error(error: BaseException, run: Path) -> BaseException:
    """`error` as one line, without Ray's layers around it; the trace goes to a file."""
    if not isinstance(error, TrainingFailedError):
        return error
    (run / TRACE_FILE).write_text(f"{error}\n")
    failures = getattr(error, "worker_failures", {})
    causes = {rank: getattr(e, "_base_exc", e) for rank, e in failures.items()}
    # When one worker dies, the others fail too, for want of it: those are no causes.
    own = {rank: e for rank, e in causes.items() if "Connection closed by peer" not in str(e)}
    lines = [f"worker {rank}: {_line(e)}" for rank, e in (own or causes).items()]
    reason = "; ".join(lines) or _line(error)
    return TrainingError(f"training failed: {reason} (all of it in {run / TRACE_FILE})")


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"[:300]
