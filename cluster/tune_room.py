"""How many trials the cluster has room for at once; and refusing those that it never will."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cluster.runtime import DATA_CPUS, required_cpus
from cluster.trial import TRIAL_CPUS
from cluster.trial_run import Job
from uda.types import UserError

_EPSILON = 1e-6  # 3 x 1/3 of a GPU is one

Node = Mapping[str, float]  # logical resources by name, as Ray has them


class _Share(NamedTuple):
    """What one process of a trial takes, all of it on one node; more than one GPU is whole GPUs."""

    gpus: float
    cpus: float


def trial_cpus(job: Job) -> float:
    """Logical CPUs of one trial, with those that read its data and score its checkpoints."""
    scaling = job.scaling
    return required_cpus(scaling.num_workers, scaling.cpus_per_worker, job.val_actors) + TRIAL_CPUS


def trials_at_once(job: Job, wanted: int | None, nodes: Sequence[Node]) -> int:
    """As many as there is room for, or as many as are `wanted`.

    Raises:
        UserError: there is no room for that many, or not even for one.
    """
    cpus, scaling = trial_cpus(job), job.scaling
    have = {name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")}
    least = wanted or 1
    most = wanted or int(have["CPU"] / cpus + _EPSILON)
    room = _packed(_shares(job), nodes, most=most)
    if room >= least:
        return room
    if have["CPU"] + _EPSILON < cpus * least:
        raise UserError(
            f"CPUs: got {have['CPU']:g} in the cluster, want {cpus * least:g} "
            f"({least} trials at once x ({scaling.num_workers} workers x "
            f"{scaling.cpus_per_worker:g} + {DATA_CPUS} to read data + {job.val_actors} to score))"
        )
    gpus = [share.gpus for share in _shares(job) if share.gpus]
    if _packed([_Share(share, 0) for share in gpus], nodes, most=least) < least:
        raise UserError(
            f"GPUs: got {have['GPU']:g} in the cluster, want room for {least} "
            f"trials at once, each with {' + '.join(f'{share:g}' for share in gpus)}"
        )
    raise UserError(
        f"nodes: got {_listed(nodes)}, want room for {least} trials at once, each with "
        f"{scaling.num_workers} workers of {scaling.cpus_per_worker:g} CPUs, which cannot span "
        "nodes; fix it with --cpus-per-worker or --concurrent"
    )


def _shares(job: Job) -> list[_Share]:
    """Of all processes of a trial, largest first."""
    scaling = job.scaling
    worker = _Share(scaling.gpus_per_worker * scaling.gpu, scaling.cpus_per_worker)
    return sorted(
        [
            *[worker] * scaling.num_workers,
            *[_Share(job.val_gpus, 1)] * job.val_actors,
            *[_Share(0, 1)] * DATA_CPUS,
            _Share(0, TRIAL_CPUS),
        ],
        reverse=True,
    )


def _packed(shares: Sequence[_Share], nodes: Sequence[Node], *, most: int) -> int:
    """How many trials fit, up to `most`, each process put where it leaves the fewest GPUs free."""
    places = [_Place(node) for node in nodes]
    for count in range(most):
        for share in shares:
            left = [(room, i) for i, place in enumerate(places) if (room := place.left(share))]
            if not left:
                return count
            places[min(left)[1]].take(share)
    return most


class _Place:
    """What is left on a node."""

    def __init__(self, node: Node) -> None:
        self._cpus = node.get("CPU", 0.0)
        self._gpus = [1.0] * int(node.get("GPU", 0))

    def left(self, share: _Share) -> tuple[float, float] | None:
        """GPUs (of the one that it shares) and CPUs that would be left; None: it does not fit."""
        pieces = self._pieces(share)
        if pieces is None or self._cpus + _EPSILON < share.cpus:
            return None
        on_gpu = self._gpus[pieces[0]] - min(share.gpus, 1) if pieces else sum(self._gpus)
        return on_gpu, self._cpus - share.cpus

    def take(self, share: _Share) -> None:
        for index in self._pieces(share) or []:
            self._gpus[index] -= min(share.gpus, 1)
        self._cpus -= share.cpus

    def _pieces(self, share: _Share) -> list[int] | None:
        """The GPUs that it would use: no share spans two but for whole ones."""
        count = max(1, round(share.gpus)) if share.gpus else 0
        piece = min(share.gpus, 1)
        fitting = [i for i, left in enumerate(self._gpus) if left + _EPSILON >= piece]
        if len(fitting) < count:
            return None
        return sorted(fitting, key=lambda i: self._gpus[i])[:count]


def _listed(nodes: Sequence[Node]) -> str:
    return ", ".join(f"{node.get('CPU', 0):g} CPUs + {node.get('GPU', 0):g} GPUs" for node in nodes)
