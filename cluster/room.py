"""How many actors fit, by the numbers that Ray schedules by: CPUs, shares of GPUs and memory."""

import math
from collections.abc import Mapping

from uda.types import UserError

CPU_ACTOR_BYTES = 2.5e9  # the most that one was seen to take: float32 ResNet-101, 1024x2048 pixels

_EPSILON = 1e-6  # 1 / (1 / 3) must be 3


def count_actors(
    name: str,
    wanted: int | None,
    have: Mapping[str, float],
    cpus_per_actor: float,
    gpus_per_actor: float,
) -> int:
    """As many actors as the resources `have` room for, and not more than `wanted`.

    An actor never spans GPUs with a part of one: three actors of 0.4 need two GPUs. Where `wanted`
    is None, those that look with the CPU are also as few as the memory allows, but at least one.

    Raises:
        UserError: not even one could ever start; `name` says whose actors.
    """
    if wanted is not None and wanted < 1:
        raise UserError(f"actors: got {wanted}, want 1 or more")
    needs = {"CPU": cpus_per_actor, "GPU": gpus_per_actor}
    rooms = {
        "CPU": int(have.get("CPU", 0) / cpus_per_actor + _EPSILON),
        "GPU": _actors_on_gpus(have.get("GPU", 0), gpus_per_actor),
    }
    for resource, room in rooms.items():
        if needs[resource] and room < 1:
            raise UserError(
                f"{name}: got a cluster without {resource}s for an actor, "
                f"want {needs[resource]:g}, have {have.get(resource, 0):g}"
            )
    room = min(room for resource, room in rooms.items() if needs[resource])
    return min(wanted or (room if gpus_per_actor else _fits_in_memory(room, have)), room)


def required_gpus(actors: int, gpus_per_actor: float) -> int:
    """Whole GPUs that so many actors need."""
    check_gpus_per_actor(gpus_per_actor)
    if gpus_per_actor > 1:
        return round(actors * gpus_per_actor)
    return math.ceil(actors / _actors_on_gpus(1, gpus_per_actor)) if gpus_per_actor else 0


def check_gpus_per_actor(gpus_per_actor: float) -> None:
    """UserError where Ray would refuse the number."""
    whole = math.isfinite(gpus_per_actor) and gpus_per_actor == round(gpus_per_actor)
    if not (0 <= gpus_per_actor <= 1 or (gpus_per_actor > 1 and whole)):
        raise UserError(f"GPUs per actor: got {gpus_per_actor:g}, want 0 to 1 or a whole number")


def _fits_in_memory(actors: int, have: Mapping[str, float]) -> int:
    """So many actors or fewer, where Ray says how much memory there is."""
    return max(1, int(min(actors, have.get("memory", math.inf) / CPU_ACTOR_BYTES)))


def _actors_on_gpus(gpus: float, gpus_per_actor: float) -> int:
    check_gpus_per_actor(gpus_per_actor)
    if gpus_per_actor > 1:
        return int(gpus / gpus_per_actor)
    return int(gpus) * int(1 / gpus_per_actor + _EPSILON) if gpus_per_actor else 0
