"""From two shard folders and a config to the batches of one worker."""

from collections.abc import Mapping

from uda.config import Config
from uda.data.loader import PairLoader
from uda.data.rows import RowReader
from uda.data.sampling import EpochPlan, SamplingConfig
from uda.data.shards import ShardFolder
from uda.randomness import generator
from uda.types import Domain, UserError


def open_feed(
    config: Config,
    folders: Mapping[Domain, ShardFolder],
    rows: Mapping[Domain, RowReader],
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> PairLoader:
    """The endless batches of worker `rank`: the same global batches for any number of workers.

    Of the target only the number of samples is read, never its labels or their statistics.
    """
    sampling = {Domain.SOURCE: config.data.source_sampling, Domain.TARGET: SamplingConfig()}
    plans = {
        domain: EpochPlan(
            folder.statistics(labels=domain is Domain.SOURCE),
            sampling[domain],
            int(generator(config.seed, f"plan.{domain}").integers(2**31)),
        )
        for domain, folder in folders.items()
    }
    return PairLoader(
        rows[Domain.SOURCE],
        rows[Domain.TARGET],
        plans[Domain.SOURCE],
        plans[Domain.TARGET],
        config.data.crop,
        batch_size=config.batch_size,
        rank=rank,
        world_size=world_size,
        threads=config.runtime.decode_threads,
        pin_memory=pin_memory,
    )


def check_source(folder: ShardFolder, sampling: SamplingConfig) -> None:
    """Raises UserError if the source has no labels to learn from, or none to sample by."""
    if not folder.manifest.classes.pixels.any():
        raise UserError(f"source {folder.path}: its shards hold no labels; want labelled shards")
    EpochPlan(folder.statistics(labels=True), sampling, seed=0)
