"""Starting Ray, or attaching to a cluster, without surprises; and refusing what would hang."""

import logging
import math
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray
from ray._private import ray_constants

from uda.types import UserError

# For a Ray of our own; a cluster keeps whatever its owner has set.
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's switch for "this machine alone": loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's announced default; silences its warning
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # two seconds per report otherwise
    # A cancelled task that was importing pandas leaves half of it in its worker, and all that use
    # Ray Data there later fail: so each worker imports it before its first task.
    "RAY_preload_python_modules": "pandas",
    "RAY_raylet_start_wait_time_s": "120",  # on a busy machine 30 seconds, Ray's, may be too few
}
_ANSWER_SECONDS = 10
DATA_CPUS = 2  # reading needs CPUs beside the workers', one for each of the two domains


@contextmanager
def start_ray(needed_cpus: float, address: str | None = None) -> Iterator[None]:
    """Attaches to `address`, else to RAY_ADDRESS, else starts a Ray here; leaves it in the end.

    A Ray of our own counts at least `needed_cpus` CPUs, however few the machine has: they are
    what Ray schedules by, and running a little slower is better than waiting forever. Where this
    process is connected to a Ray already, that one is used and left alone.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS", "local")
    with _local_ray(needed_cpus) if address == "local" else _attached_ray(address):
        yield


def check_resources(
    workers: int, cpus_per_worker: float, gpus: int = 0, *, actors: int = 0
) -> None:
    """UserError unless Ray has the CPUs of the workers, of reading and of `actors` that validate.

    And `gpus` GPUs in all. Ray itself would wait for what never comes.
    """
    compare_resources(ray.cluster_resources(), workers, cpus_per_worker, gpus, actors)


def compare_resources(
    have: Mapping[str, float], workers: int, cpus_per_worker: float, gpus: int, actors: int = 0
) -> None:
    """The rule of `check_resources` for given resources."""
    cpus = required_cpus(workers, cpus_per_worker, actors)
    if have.get("CPU", 0) < cpus:
        validate = f" + {actors} to validate" if actors else ""
        raise UserError(
            f"CPUs: got {have.get('CPU', 0):g} in the cluster, want {cpus:g} "
            f"({workers} workers x {cpus_per_worker:g} + {DATA_CPUS} to read data{validate})"
        )
    if have.get("GPU", 0) < gpus:
        raise UserError(f"GPUs: got {have.get('GPU', 0):g} in the cluster, want {gpus}")


def required_cpus(workers: int, cpus_per_worker: float, actors: int = 0) -> float:
    """Logical CPUs that training needs, with so many actors that validate."""
    return workers * cpus_per_worker + DATA_CPUS + actors


@contextmanager
def _local_ray(needed_cpus: float) -> Iterator[None]:
    """Ray on the loopback device, with a token that lives and dies with this process.

    Other users of the machine can reach loopback ports, and who reaches Ray can run code. Ray
    would make the same token for us, but leave it in the home directory for good.
    """
    num_cpus = max(os.cpu_count() or 1, math.ceil(needed_cpus))
    # So many processes may start at once; a few times as many, and Ray warns in the terminal.
    at_once = {"RAY_worker_maximum_startup_concurrency": str(num_cpus)}
    for name, value in (_LOCAL | at_once).items():
        os.environ.setdefault(name, value)
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    spans_machines = ray_constants.ENABLE_RAY_CLUSTER  # what the switch was when Ray was imported
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        ray.init(
            address="local",  # never attach to a stranger's Ray on this machine
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield
    finally:
        ray.shutdown()
        ray_constants.ENABLE_RAY_CLUSTER = spans_machines


@contextmanager
def _attached_ray(address: str) -> Iterator[None]:
    _check_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"Ray address: got {address}, want a cluster: {message}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answer(address: str) -> None:
    """UserError at once where nobody listens: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isdecimal()):
        return  # such as "auto", which Ray looks up
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"Ray address: got {address}, want a cluster: {error}") from error
