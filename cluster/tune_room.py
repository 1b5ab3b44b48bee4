"""How many trials the cluster has room for at once; and refusing those that it never will."""

from collections.abc import Mapping

from cluster.runtime import DATA_CPUS, required_cpus
from cluster.trial import TRIAL_CPUS
from cluster.trial_run import Job
from uda.types import UserError

_EPSILON = 1e-6  # 3 x 1/3 of a GPU is one


def trial_cpus(job: Job) -> float:
    """Logical CPUs of one trial, with those that read its data and score its checkpoints."""
    scaling = job.scaling
    return required_cpus(scaling.num_workers, scaling.cpus_per_worker, job.val_actors) + TRIAL_CPUS


def trials_at_once(job: Job, wanted: int | None, have: Mapping[str, float]) -> int:
    """As many as there is room for, or as many as are `wanted`.

    Raises:
        UserError: there is no room for that many, or not even for one.
    """
    cpus, scaling = trial_cpus(job), job.scaling
    room = int(have.get("CPU", 0) / cpus + _EPSILON)
    if room < (wanted or 1):
        raise UserError(
            f"CPUs: got {have.get('CPU', 0):g} in the cluster, want {cpus * (wanted or 1):g} "
            f"({wanted or 1} trials at once x ({scaling.num_workers} workers x "
            f"{scaling.cpus_per_worker:g} + {DATA_CPUS} to read data + {job.val_actors} to score))"
        )
    shares = _gpu_shares(job)
    if shares:
        on_gpus = _packed(shares, int(have.get("GPU", 0)), most=wanted or room)
        if on_gpus < (wanted or 1):
            said = " + ".join(f"{share:g}" for share in shares)
            raise UserError(
                f"GPUs: got {have.get('GPU', 0):g} in the cluster, want room for {wanted or 1} "
                f"trials at once, each with {said}"
            )
        room = min(room, on_gpus)
    return wanted or room


def _gpu_shares(job: Job) -> list[float]:
    """What each process of a trial takes, largest first; more than one GPU is whole GPUs."""
    workers = [job.scaling.gpus_per_worker] * job.scaling.num_workers * job.scaling.gpu
    actors = [job.val_gpus] * job.val_actors if job.val_gpus else []
    return sorted([*workers, *actors], reverse=True)


def _packed(shares: list[float], gpus: int, *, most: int) -> int:
    """How many trials fit, each share put where it leaves the least, as Ray does.

    No share spans two GPUs but for whole ones.
    """
    left = [1.0] * gpus
    for count in range(most):
        for share in shares:
            piece, pieces = (1.0, round(share)) if share > 1 else (share, 1)
            for _ in range(pieces):
                fitting = [room for room in left if room + _EPSILON >= piece]
                if not fitting:
                    return count
                left.remove(min(fitting))
                left.append(min(fitting) - piece)
    return most
