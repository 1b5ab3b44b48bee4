"""A pool of Ray actors that look at samples: each loads a network, and takes work when it is free.

Every sample's result arrives once. It depends neither on the number of actors nor on their order
nor on actors that died on the way, whose work was given to others.
"""

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from tqdm import tqdm

from cluster.room import count_actors
from uda.types import UserError, WorkError

_CHUNKS_PER_ACTOR = 8  # small enough that the last actor is not long behind the others,
# and that little is lost with an actor. A GPU waits at the end of a chunk, until the first image of
# the next one is decoded; a CPU may look at an image for half a minute.
_MAX_CHUNK_ON_GPU, _MAX_CHUNK_ON_CPU = 64, 4
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
    gpus_per_actor: float = 0.0,
    progress: bool,
    multiple_of: int = 1,
) -> Iterator[tuple[Chunk, Result]]:
    """One `ActorPool.run` of a pool that is opened for it and closed after it."""
    with ActorPool(actors=actors, gpus_per_actor=gpus_per_actor) as pool:
        yield from pool.run(name, make, samples, progress=progress, multiple_of=multiple_of)


class ActorPool:
    """Actors that live from the first run to the end of the `with` block.

    A run with work for fewer of them ends the others. `actors` None: as many as the cluster has
    room for. `gpus_per_actor` 0 is the CPU; of 0.25,
    four actors share a GPU, whose memory nobody divides for them.
    """

    def __init__(
        self, *, actors: int | None = None, gpus_per_actor: float = 0.0, cpus_per_actor: float = 1.0
    ) -> None:
        self._wanted = actors
        self._gpus = gpus_per_actor
        self._cpus = cpus_per_actor
        self._actors: list[Any] = []
        self._run: _Run[Any] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        name: str,
        make: Callable[[], Work[Result]],
        samples: int,
        *,
        progress: bool,
        multiple_of: int = 1,
    ) -> Iterator[tuple[Chunk, Result]]:
        """Chunks of the samples 0 .. samples - 1 in any order, each with its result.

        `make` makes in every actor the function that does the work; what an earlier run made there
        is dropped. A chunk is a whole number of times `multiple_of` neighbours, but for the last.
        A run that is not read to its end is over when the next one begins. `name` is for messages.

        Raises:
            UserError: the cluster has no room for an actor, or the work met a mistake.
            OSError: that the work met.
            WorkError: the work ends its actors, or the cluster has lost the room it had.
        """
        num_actors = max(1, min(self._count(name), samples))
        if self._run is not None:
            self._run.end()
        most = _MAX_CHUNK_ON_GPU if self._gpus else _MAX_CHUNK_ON_CPU
        chunks = chunks_of(samples, num_actors, most, multiple_of)
        run = self._run = _Run(self, name, make, chunks)
        bar = tqdm(total=samples, unit="image", desc=name, file=sys.stderr, disable=not progress)
        try:
            with bar:
                run.start(min(num_actors, len(chunks)))
                for _ in chunks:
                    chunk, result = run.next_result()
                    yield chunk, result
                    bar.update(len(chunk))
        finally:
            run.end()

    def close(self) -> None:
        """Ends all actors; a run that waits for them in another thread ends with an error."""
        with self._lock:
            self._closed = True
            actors = self._actors.copy()
            self._actors.clear()
        for actor in actors:
            ray.kill(actor)

    @property
    def actors(self) -> list[Any]:
        """Those that have been started, as Ray's handles."""
        return self._actors.copy()

    def _count(self, name: str) -> int:
        have = ray.cluster_resources()
        try:
            return count_actors(name, self._wanted, have, self._cpus, self._gpus)
        except UserError as error:
            if self._run is None:
                raise
            raise WorkError(str(error)) from None  # nobody's mistake: there was room before

    def start_actor(self) -> Any:
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool of actors is closed")
            actor_class: Any = ray.remote(_Worker)
            options = {"num_cpus": self._cpus, "num_gpus": self._gpus}
            actor = actor_class.options(**options).remote(max(1, int(self._cpus)))
            self._actors.append(actor)
            return actor

    def end_actor(self, actor: Any) -> None:
        with self._lock:
            if actor in self._actors:  # else `close` was here
                self._actors.remove(actor)
        ray.kill(actor)


def chunks_of(samples: int, actors: int, most: int, multiple_of: int = 1) -> list[Chunk]:
    """The indices 0 .. samples - 1 in chunks of neighbours, which lie side by side in a shard.

    At most `most` in each. All but the last are a whole number of times `multiple_of` long.
    """
    size = min(most, samples // (actors * _CHUNKS_PER_ACTOR))
    size = max(1, size // multiple_of) * multiple_of
    return [tuple(range(start, min(start + size, samples))) for start in range(0, samples, size)]


class _Worker:
    """Holds what is expensive to make, and does the chunks that it is given."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)  # more than its CPUs would disturb the others

    def prepare(self, make: Callable[[], Work[Any]]) -> None:
        """Not in the constructor, whose errors Ray reports without the original exception."""
        self._work: Work[Any] | None = None  # the old network makes room before the new one comes
        self._work = make()

    def work(self, chunk: Chunk) -> Any:
        assert self._work is not None
        return self._work(chunk)


@dataclass(frozen=True)
class _Call:
    """What an actor is doing: a chunk, or getting ready where `chunk` is empty."""

    actor: Any
    chunk: Chunk
    is_old: bool = False  # the actor was there before this run, and may be dead since long ago


class _Run(Generic[Result]):
    """What is to be done and who does what. Only an actor that is ready is given a chunk.

    So a cluster with less room than asked for, or one that shrinks, is slower but never stuck:
    actors that wait for a place hold no work.
    """

    def __init__(
        self,
        pool: ActorPool,
        name: str,
        make: Callable[[], Work[Result]],
        chunks: Sequence[Chunk],
    ) -> None:
        self._pool = pool
        self._name = name
        self._make = ray.put(make)
        self._waiting = deque(chunks)
        self._calls: dict[Any, _Call] = {}
        self._losses: Counter[Chunk] = Counter()
        self._ended = False

    def start(self, num_actors: int) -> None:
        """All actors of the pool get ready: one that was left out might hold another's place.

        Those too many end instead, as getting ready takes a network's time and memory.
        """
        old = self._pool.actors
        for actor in old[num_actors:]:
            self._pool.end_actor(actor)
        for actor in old[:num_actors]:
            self._prepare(actor, is_old=True)
        for _ in range(num_actors - len(old)):
            self._prepare(self._pool.start_actor())

    def next_result(self) -> tuple[Chunk, Result]:
        """Some chunk and its result; waits for it."""
        while True:
            if self._ended:
                raise RuntimeError(f"{self._name}: the actors were given other work")
            (done,), _ = ray.wait(list(self._calls), num_returns=1)
            call = self._calls.pop(done)
            try:
                result = ray.get(done)
            except (RayActorError, OutOfMemoryError) as error:
                self._pool.end_actor(call.actor)
                replacement = self._pool.start_actor()  # first of all: not where the pool is closed
                self._lost(call, error)
                self._prepare(replacement)
                continue
            except RayTaskError as error:
                # As they are, without Ray's trace: all that `uda.arguments.run_verb` knows.
                if isinstance(error.cause, UserError | WorkError | OSError):
                    raise error.cause from None
                raise
            self._give_work(call.actor)
            if call.chunk:
                return call.chunk, result

    def end(self) -> None:
        """Actors that are not done with a chunk end; the others are free for other work."""
        self._ended = True
        for call in self._calls.values():
            if call.chunk:
                self._pool.end_actor(call.actor)
        self._calls.clear()

    def _prepare(self, actor: Any, *, is_old: bool = False) -> None:
        self._calls[actor.prepare.remote(self._make)] = _Call(actor, (), is_old)

    def _give_work(self, actor: Any) -> None:
        if self._waiting:
            chunk = self._waiting.popleft()
            self._calls[actor.work.remote(chunk)] = _Call(actor, chunk)

    def _lost(self, call: _Call, error: Exception) -> None:
        if call.is_old:
            return  # what it died of may have been another run's
        self._losses[call.chunk] += 1
        if self._losses[call.chunk] >= _MAX_ATTEMPTS:
            what = f"the samples {call.chunk}" if call.chunk else "loading the network"
            raise WorkError(
                f"{self._name}: {what} ended {_MAX_ATTEMPTS} actors; "
                "out of memory? try fewer --actors"
            ) from error
        if call.chunk:
            self._waiting.appendleft(call.chunk)
