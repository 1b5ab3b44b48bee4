"""From two shard folders and a config to the batches of one worker."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from uda.config import Config
from uda.data.crops import CropSource, RowCrops, SkipBadRows
from uda.data.loader import CropLoader, PairLoader, Share
from uda.data.predictions import Predictions, read_predictions
from uda.data.rows import ShardRows
from uda.data.sampling import EpochPlan, PredictedTarget, SamplingConfig
from uda.data.shards import ShardFolder
from uda.randomness import generator
from uda.types import Domain, UserError


def epoch_plans(config: Config, folders: Mapping[Domain, ShardFolder]) -> dict[Domain, EpochPlan]:
    """Which samples each step uses.

    Of the target only the number of samples is read, never its labels or their statistics; matched
    sampling reads the file of predictions too.
    """
    sampling = config.data.source_sampling
    seeds = {d: int(generator(config.seed, f"plan.{d}").integers(2**31)) for d in Domain}
    target = EpochPlan(
        folders[Domain.TARGET].statistics(labels=False), SamplingConfig(), seeds[Domain.TARGET]
    )
    predictions = target_predictions(config, folders)
    source = EpochPlan(
        folders[Domain.SOURCE].statistics(labels=True),
        sampling,
        seeds[Domain.SOURCE],
        PredictedTarget(plan=target, predictions=predictions) if predictions else None,
    )
    return {Domain.SOURCE: source, Domain.TARGET: target}


def target_predictions(config: Config, folders: Mapping[Domain, ShardFolder]) -> Predictions | None:
    """What matched sampling goes by; None for other kinds. UserError says what is wrong with it."""
    file = config.data.source_sampling.predictions
    return read_predictions(file, folders[Domain.TARGET]) if file else None


def open_feed(
    config: Config,
    folders: Mapping[Domain, ShardFolder],
    crops: Mapping[Domain, CropSource],
    share: Share,
    *,
    pin_memory: bool = False,
) -> PairLoader:
    """The endless batches of one worker: the same global batches for any number of workers."""
    plans = epoch_plans(config, folders)
    threads = config.runtime.decode_threads
    executor = ThreadPoolExecutor(threads, "decode") if threads else None
    if config.ingest.on_bad_row == "skip":
        most = config.ingest.max_bad_rows
        crops = {
            domain: SkipBadRows(crops[domain], _local_crops(config, domain, folder), most)
            for domain, folder in folders.items()
        }
    loaders = {
        domain: CropLoader(
            crops[domain],
            plans[domain],
            config.data.crop,
            share,
            labels=domain is Domain.SOURCE,
            executor=executor,
            pin_memory=pin_memory,
        )
        for domain in Domain
    }
    return PairLoader(loaders[Domain.SOURCE], loaders[Domain.TARGET], share, executor)


def open_local_feed(
    config: Config,
    folders: Mapping[Domain, ShardFolder],
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> PairLoader:
    """`open_feed` of local folders, read and decoded in this process."""
    crops = {domain: _local_crops(config, domain, folder) for domain, folder in folders.items()}
    share = Share(batch_size=config.batch_size, rank=rank, world_size=world_size)
    return open_feed(config, folders, crops, share, pin_memory=pin_memory)


def check_data(config: Config, folders: Mapping[Domain, ShardFolder]) -> None:
    """Raises UserError if the source has no labels to learn from, or none to sample by.

    Matched sampling must also find its predictions for the target.
    """
    source = folders[Domain.SOURCE]
    if not source.manifest.classes.pixels.any():
        raise UserError(f"source {source.path}: its shards hold no labels; want labelled shards")
    bare = source.samples(["label_bytes"])["label_bytes"].null_count
    if bare and config.data.source_sampling.kind == "uniform":  # the others draw labelled ones only
        raise UserError(
            f"source {source.path}: got {bare} of {len(source)} samples without labels, want "
            "labels for all, or data.source_sampling.kind=rare_class"
        )
    epoch_plans(config, folders)


def _local_crops(config: Config, domain: Domain, folder: ShardFolder) -> RowCrops:
    """Of the source with labels, of the target without."""
    labels = domain is Domain.SOURCE
    return RowCrops(ShardRows(folder, labels=labels), config.data.crop, labels=labels)
