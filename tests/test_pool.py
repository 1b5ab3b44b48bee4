"""cluster/pool.py and cluster/room.py: actors that live on from run to run, and how many fit."""

import argparse
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.room import CPU_ACTOR_BYTES, check_gpus_per_actor, count_actors, required_gpus
from uda.arguments import run_verb
from uda.types import UserError, WorkError

SAMPLES = 40


class TestRoom:
    @pytest.mark.parametrize(
        ("wanted", "have", "cpus", "gpus", "expected"),
        [
            (None, {"CPU": 6}, 1, 0, 6),
            (2, {"CPU": 6}, 1, 0, 2),
            (9, {"CPU": 6}, 1, 0, 6),
            (None, {"CPU": 6}, 4, 0, 1),
            (None, {"CPU": 16, "GPU": 2}, 1, 1, 2),
            (None, {"CPU": 16, "GPU": 1}, 1, 0.25, 4),
            (None, {"CPU": 16, "GPU": 2}, 1, 0.4, 4),  # not 5: none lies on both GPUs
            (None, {"CPU": 16, "GPU": 1}, 1, 1 / 3, 3),
            (None, {"CPU": 16, "GPU": 1}, 1, 0.1, 10),
            (None, {"CPU": 3, "GPU": 1}, 1, 0.1, 3),
            (None, {"CPU": 16, "GPU": 5}, 1, 2, 2),
        ],
    )
    def test_as_many_as_there_is_room_for(self, wanted, have, cpus, gpus, expected):
        assert count_actors("score", wanted, have, cpus, gpus) == expected

    @pytest.mark.parametrize(
        ("wanted", "actors_in_memory", "gpus", "expected"),
        [
            (None, 2.9, 0, 2),
            (None, 9, 0, 6),
            (None, 0.5, 0, 1),
            (4, 2.9, 0, 4),  # whoever asks for it gets it
            (None, 2.9, 0.25, 4),  # on a GPU's memory
        ],
    )
    def test_no_more_than_fit_into_memory(self, wanted, actors_in_memory, gpus, expected):
        have = {"CPU": 6, "GPU": 1, "memory": actors_in_memory * CPU_ACTOR_BYTES}
        assert count_actors("score", wanted, have, 1, gpus) == expected

    @pytest.mark.parametrize(
        ("wanted", "have", "gpus", "message"),
        [
            (0, {"CPU": 6}, 0, "actors: got 0, want 1 or more"),
            (None, {}, 0, "score: got a cluster without CPUs for an actor, want 1, have 0"),
            (None, {"CPU": 6}, 0.5, r"without GPUs for an actor, want 0\.5, have 0"),
            (None, {"CPU": 6, "GPU": 1}, 2, "without GPUs for an actor, want 2, have 1"),
            (None, {"CPU": 6, "GPU": 3}, 1.5, r"GPUs per actor: got 1\.5, want 0 to 1 or a whole"),
            (None, {"CPU": 6, "GPU": 3}, -1, "GPUs per actor: got -1"),
            (None, {"CPU": 6, "GPU": 3}, math.nan, "GPUs per actor: got nan, want 0 to 1 or a"),
        ],
    )
    def test_what_could_never_start_is_refused(self, wanted, have, gpus, message):
        with pytest.raises(UserError, match=message):
            count_actors("score", wanted, have, 1, gpus)

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_what_is_no_number_of_gpus(self, number):
        for refuses in (check_gpus_per_actor, lambda gpus: required_gpus(1, gpus)):
            with pytest.raises(UserError, match=f"GPUs per actor: got {number}, want 0 to 1"):
                refuses(number)

    @pytest.mark.parametrize(
        ("actors", "gpus_per_actor", "expected"),
        [(3, 0, 0), (4, 0.25, 1), (5, 0.25, 2), (3, 0.4, 2), (2, 1, 2), (2, 3, 6)],
    )
    def test_whole_gpus(self, actors, gpus_per_actor, expected):
        assert required_gpus(actors, gpus_per_actor) == expected


@pytest.mark.ray
@pytest.mark.parametrize(
    ("samples", "actors", "multiple_of"), [(10, 2, 4), (500, 3, 4), (500, 3, 5), (33, 1, 40)]
)
def test_chunks_are_aligned(samples, actors, multiple_of):
    from cluster.pool import chunks_of

    chunks = chunks_of(samples, actors, 16, multiple_of)
    assert [index for chunk in chunks for index in chunk] == list(range(samples))
    assert all(chunk[0] % multiple_of == 0 for chunk in chunks)
    assert all(len(chunk) % multiple_of == 0 for chunk in chunks[:-1])


@pytest.fixture(scope="module")
def new_pool(ray_local: None) -> Callable:
    """`ActorPool`; imports Ray only where Ray is tested."""
    from cluster.pool import ActorPool

    return ActorPool


@pytest.fixture
def pool(new_pool: Callable) -> Iterator:
    """Two actors."""
    with new_pool(actors=2) as opened:
        yield opened


def times(factor: int) -> Callable:
    """Makes work that says what it computed and in which process."""

    def make() -> Callable:
        return lambda indices: ([factor * index for index in indices], os.getpid())

    return make


def collect(results: Iterator) -> tuple[dict[int, int], set[int]]:
    """Every sample's value, and the processes; fails if a sample comes twice."""
    values: dict[int, int] = {}
    processes = set()
    for chunk, (computed, process) in results:
        assert not values.keys() & set(chunk)
        values |= dict(zip(chunk, computed, strict=True))
        processes.add(process)
    return values, processes


def run(pool, make: Callable, samples: int = SAMPLES) -> tuple[dict[int, int], set[int]]:
    return collect(pool.run("score", make, samples, progress=False))


def product(factor: int) -> dict[int, int]:
    return {index: factor * index for index in range(SAMPLES)}


@pytest.mark.ray
def test_processes_live_on_and_do_the_new_work(new_pool):
    with new_pool(actors=1) as pool:
        first, processes = run(pool, times(2))
        second, later_processes = run(pool, times(3))
        assert run(pool, times(3), 0) == ({}, set())
    assert (first, second) == (product(2), product(3))
    assert processes == later_processes
    assert len(processes) == 1


@pytest.mark.ray
def test_a_killed_actor_changes_nothing_in_a_later_run(pool):
    _, processes = run(pool, times(2))
    for process in processes:  # while they do nothing
        os.kill(process, signal.SIGKILL)
    values, later = run(pool, times(3))
    assert values == product(3)
    assert not later & processes


@pytest.mark.ray
def test_an_actor_killed_at_work_changes_nothing(pool, tmp_path):
    run(pool, times(1))

    def make() -> Callable:
        def work(indices: tuple[int, ...]) -> tuple[list[int], int]:
            if 20 in indices and not (tmp_path / "killed").exists():
                (tmp_path / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return [2 * index for index in indices], os.getpid()

        return work

    values, _ = run(pool, make)
    assert (tmp_path / "killed").exists()
    assert values == product(2)


@pytest.mark.ray
def test_a_run_with_less_work_gets_fewer_actors_ready(new_pool, tmp_path):
    def make() -> Callable:
        (tmp_path / str(os.getpid())).touch()
        return times(2)()

    with new_pool(actors=4) as pool:
        run(pool, times(1))
        assert len(pool.actors) == 4
        assert run(pool, make, 1)[0] == {0: 0}
        assert len(list(tmp_path.iterdir())) == 1
        assert len(pool.actors) == 1
        assert run(pool, times(3))[0] == product(3)
        assert len(pool.actors) == 4


@pytest.mark.ray
@pytest.mark.slow
def test_a_deadly_chunk_ends_its_run_but_not_the_pool(new_pool, capsys):
    def make() -> Callable:
        def work(indices: tuple[int, ...]) -> tuple[list[int], int]:
            if 20 in indices:
                os.kill(os.getpid(), signal.SIGKILL)
            return list(indices), os.getpid()

        return work

    with new_pool(actors=1) as pool:
        run(pool, times(1))
        assert run_verb(lambda _: run(pool, make), argparse.Namespace()) == 1
        said = capsys.readouterr().err
        assert re.fullmatch(
            r"uda: score: the samples \(.*20.*\) ended 3 actors; "
            r"out of memory\? try fewer --actors\n",
            said,
        )
        assert run(pool, times(2))[0] == product(2)


@pytest.mark.ray
def test_a_mistake_ends_its_run_but_not_the_pool(pool):
    def mistaken() -> Callable:
        raise UserError("checkpoint x: got rubbish")

    def broken() -> Callable:
        return lambda indices: 1 / 0

    def full() -> Callable:
        raise OSError(28, "No space left on device", "a.png")

    def given_up() -> Callable:
        raise WorkError("gave up")

    for _ in range(2):
        with pytest.raises(UserError, match=r"^checkpoint x: got rubbish$"):
            run(pool, mistaken)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: 'a\.png'$"):
        run(pool, full)
    with pytest.raises(WorkError, match=r"^gave up$"):
        run(pool, given_up)
    with pytest.raises(ZeroDivisionError):
        run(pool, broken)
    assert run(pool, times(2))[0] == product(2)


@pytest.mark.ray
def test_a_cluster_that_has_lost_its_room_is_nobodys_mistake(new_pool, monkeypatch):
    with new_pool(actors=1) as pool:
        monkeypatch.setattr("cluster.pool.ray.cluster_resources", dict)
        with pytest.raises(UserError, match="score: got a cluster without CPUs"):
            run(pool, times(1))
        monkeypatch.undo()
        run(pool, times(1))
        monkeypatch.setattr("cluster.pool.ray.cluster_resources", dict)
        with pytest.raises(WorkError, match="score: got a cluster without CPUs"):
            run(pool, times(1))


@pytest.mark.ray
def test_a_run_that_is_not_read_to_its_end_leaves_the_pool_usable(pool):
    def slow() -> Callable:
        def work(indices: tuple[int, ...]) -> tuple[list[int], int]:
            time.sleep(0 if 0 in indices else 60)
            return list(indices), os.getpid()

        return work

    for _ in pool.run("score", slow, SAMPLES, progress=False):
        break
    assert run(pool, times(2))[0] == product(2)
    unfinished = pool.run("score", times(1), SAMPLES, progress=False)
    next(unfinished)
    assert run(pool, times(3))[0] == product(3)
    with pytest.raises(RuntimeError, match="were given other work"):
        list(unfinished)


@pytest.mark.ray
def test_closing_ends_actors_and_a_run_that_waits_for_them(new_pool, tmp_path):
    def make() -> Callable:
        (tmp_path / str(os.getpid())).touch()
        return lambda indices: time.sleep(60)

    errors: list[Exception] = []

    def score() -> None:
        try:
            run(pool, make)
        except RuntimeError as error:
            errors.append(error)

    with new_pool(actors=1) as pool:
        thread = threading.Thread(target=score)
        thread.start()
        while not (processes := list(tmp_path.iterdir())):
            time.sleep(0.02)
    thread.join(20)
    assert [str(error) for error in errors] == ["the pool of actors is closed"]
    wait_for_the_end(Path(f"/proc/{processes[0].name}"))
    with pytest.raises(RuntimeError, match="the pool of actors is closed"):
        run(pool, make)


def wait_for_the_end(process: Path) -> None:
    for _ in range(200):
        if not process.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{process} is still there")
