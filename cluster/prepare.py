"""`uda prepare` on all CPUs of the cluster.

One Ray task writes one shard. Not Ray Data: nothing flows from task to task, a shard's name and
content must not depend on scheduling, and a task that Ray repeats after a lost worker has to find
out by itself what is done already. So the plain `write_shard` is mapped, and nothing else.
"""

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import ray

import uda.data.prepare
from cluster.runtime import start_ray
from uda.data.shards import Manifest
from uda.data.write import ShardJob, WrittenShard, write_shard
from uda.types import UserError

_CANCEL_S = 60


def prepare(
    dataset: str,
    root: str,
    out: str | Path,
    split: str,
    *,
    size: tuple[int, int] | None = None,
    codec: str = "jpeg",
    count: int | None = None,
    seed: int = 0,
    rows_per_shard: int = 64,
    on_error: str = "quarantine",
    max_bad: float = uda.data.prepare.MAX_BAD,
    progress: bool = True,
) -> Manifest:
    """As uda.data.prepare.prepare, with the same result. Starts Ray as `start_ray` does.

    On a cluster, ROOT and OUT must be folders that all nodes share.
    """
    with ExitStack() as session:

        def execute(jobs: list[ShardJob]) -> Generator[WrittenShard, None, None]:
            if jobs:  # not before: mistakes and finished folders are answered without Ray
                session.enter_context(start_ray(needed_cpus=1))
            return run_tasks(jobs)

        return uda.data.prepare.prepare(
            dataset,
            str(Path(root).absolute()) if Path(root).exists() else root,
            Path(out).absolute(),  # tasks run in folders of their own
            split,
            size=size,
            codec=codec,
            count=count,
            seed=seed,
            rows_per_shard=rows_per_shard,
            on_error=on_error,
            max_bad=max_bad,
            progress=progress,
            execute=execute,
        )


def run_tasks(jobs: list[ShardJob], num_cpus: float = 1) -> Generator[WrittenShard, None, None]:
    """Writes the shards in tasks of `num_cpus` each; results come in order of completion."""
    pending = [_write.options(num_cpus=num_cpus).remote(job) for job in jobs]
    try:
        while pending:
            done, pending = ray.wait(pending)
            for result in ray.get(done):
                if isinstance(result, UserError):
                    raise result
                yield result
    finally:
        for task in pending:
            ray.cancel(task)
        # Until they have ended, and taken their temporary files with them.
        if pending:
            ray.wait(pending, num_returns=len(pending), timeout=_CANCEL_S)


@ray.remote
def _write(job: ShardJob) -> WrittenShard | UserError:
    """Returns the user's mistakes: raised here, they would arrive wrapped in a remote trace."""
    try:
        return write_shard(job)
    except UserError as error:
        return error
