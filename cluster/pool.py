"""A pool of Ray actors that look at samples: each loads a network once, takes work when it is free.

Every sample's result arrives once. It depends neither on the number of actors nor on their order
nor on actors that died on the way, whose work was given to others.
"""

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from tqdm import tqdm

from uda.types import UserError

GPU_DECODE_THREADS = 2  # a GPU is quicker with an image than one thread is with decoding it

_CHUNKS_PER_ACTOR = 8  # small enough that the last actor is not long behind the others,
_MAX_CHUNK = 16  # and that little is lost with an actor
_MAX_ATTEMPTS = 3  # a chunk that kills so many actors is at fault itself

Result = TypeVar("Result")
Chunk = tuple[int, ...]
Work = Callable[[Sequence[int]], Result]  # the result of the samples with these indices


def run_pool(
    name: str,
    make: Callable[[], Work[Result]],
    samples: int,
    *,
    actors: int | None,
    gpu: bool,
    progress: bool,
) -> Iterator[tuple[Chunk, Result]]:
    """Chunks of the samples 0 .. samples - 1 in any order, each with its result.

    `make` makes in every actor the function that does the work. An actor has one CPU, with `gpu`
    also one GPU; None: as many actors as the cluster has room for. `name` is for messages.
    """
    num_actors = _num_actors(name, actors, samples, gpu)
    pool = _Pool(name, make, chunks_of(samples, num_actors), gpu=gpu)
    bar = tqdm(total=samples, unit="image", desc=name, file=sys.stderr, disable=not progress)
    done = 0
    try:
        with bar:
            for _ in range(num_actors):
                pool.start_actor()
            while done < samples:
                chunk, result = pool.next_result()
                yield chunk, result
                done += len(chunk)
                bar.update(len(chunk))
    finally:
        pool.close()


def chunks_of(samples: int, actors: int) -> list[Chunk]:
    """The indices 0 .. samples - 1 in chunks of neighbours, which lie side by side in a shard."""
    size = max(1, min(_MAX_CHUNK, samples // (actors * _CHUNKS_PER_ACTOR)))
    return [tuple(range(start, min(start + size, samples))) for start in range(0, samples, size)]


class _Worker:
    """Holds what is expensive to make, and does the chunks that it is given."""

    def prepare(self, make: Callable[[], Work[Any]]) -> None:
        """Not in the constructor, whose errors Ray reports without the original exception."""
        torch.set_num_threads(1)  # an actor has one CPU; more threads than that disturb the others
        self._work = make()

    def work(self, chunk: Chunk) -> Any:
        return self._work(chunk)


@dataclass(frozen=True)
class _Call:
    """What an actor is doing: a chunk, or getting ready where `chunk` is empty."""

    actor: Any
    chunk: Chunk


class _Pool(Generic[Result]):
    """Actors and what they are doing. Only an actor that is ready is given a chunk.

    So a cluster with less room than asked for, or one that shrinks, is slower but never stuck:
    actors that wait for a place hold no work.
    """

    def __init__(
        self, name: str, make: Callable[[], Work[Result]], chunks: Sequence[Chunk], *, gpu: bool
    ) -> None:
        self._name = name
        self._make = ray.put(make)
        self._gpu = gpu
        self._waiting = deque(chunks)
        self._calls: dict[Any, _Call] = {}
        self._losses: Counter[Chunk] = Counter()

    def start_actor(self) -> None:
        actor_class: Any = ray.remote(_Worker)
        actor = actor_class.options(num_cpus=1, num_gpus=1 if self._gpu else 0).remote()
        self._calls[actor.prepare.remote(self._make)] = _Call(actor, ())

    def next_result(self) -> tuple[Chunk, Result]:
        """Some chunk and its result; waits for it."""
        while True:
            (done,), _ = ray.wait(list(self._calls), num_returns=1)
            call = self._calls.pop(done)
            try:
                result = ray.get(done)
            except (RayActorError, OutOfMemoryError) as error:
                self._lost(call, error)
                self.start_actor()
                continue
            except RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            self._give_work(call.actor)
            if call.chunk:
                return call.chunk, result

    def close(self) -> None:
        for call in self._calls.values():
            ray.kill(call.actor)
        self._calls.clear()

    def _give_work(self, actor: Any) -> None:
        """The next chunk, or the end: an actor that nobody refers to is stopped by Ray."""
        if self._waiting:
            chunk = self._waiting.popleft()
            self._calls[actor.work.remote(chunk)] = _Call(actor, chunk)

    def _lost(self, call: _Call, error: Exception) -> None:
        self._losses[call.chunk] += 1
        if self._losses[call.chunk] >= _MAX_ATTEMPTS:
            what = f"the samples {call.chunk}" if call.chunk else "loading the network"
            raise RuntimeError(f"{self._name}: {what} ended {_MAX_ATTEMPTS} actors") from error
        if call.chunk:
            self._waiting.appendleft(call.chunk)


def _num_actors(name: str, wanted: int | None, samples: int, gpu: bool) -> int:
    """At least 1, not more than samples; UserError where the cluster could never start one."""
    resource = "GPU" if gpu else "CPU"
    room = int(ray.cluster_resources().get(resource, 0))
    if wanted is not None and wanted < 1:
        raise UserError(f"actors: got {wanted}, want 1 or more")
    if room < 1:
        raise UserError(f"{name}: got a cluster without {resource}, want one per actor")
    return max(1, min(wanted or room, room, samples))
