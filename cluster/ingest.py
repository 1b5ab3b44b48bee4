"""How shards reach the workers: resident in the cluster's memory, or streamed; chosen by size."""

from collections.abc import Mapping

import ray

from cluster.resident import ResidentRef, ResidentRows, load_resident
from cluster.streaming import StreamedCrops, StreamRef, open_stream
from uda.config import Config
from uda.data.crops import CropSource, RowCrops
from uda.data.loader import Share
from uda.data.shards import ShardFolder
from uda.feed import epoch_plans
from uda.types import Domain, UserError

IngestRef = ResidentRef | StreamRef

_RESIDENT_SHARE = 0.5  # of a node's object store; the rest is for everything else


def open_ingest(config: Config, folders: Mapping[Domain, ShardFolder]) -> dict[Domain, IngestRef]:
    """What the workers need to get at the data; the driver must keep it while they train.

    UserError where `ingest.mode` is resident and the data do not fit.
    """
    if choose_mode(config, folders, object_store_bytes()) == "resident":
        return {
            d: load_resident(folder, labels=d is Domain.SOURCE) for d, folder in folders.items()
        }
    plans = epoch_plans(config, folders)
    return {
        domain: open_stream(
            folder,
            plans[domain],
            config.data.crop,
            labels=domain is Domain.SOURCE,
            decode=config.ingest.decode == "cluster",
            ahead_bytes=1e6 * config.ingest.ahead_mb,
        )
        for domain, folder in folders.items()
    }


def worker_crops(
    config: Config, ingest: Mapping[Domain, IngestRef], share: Share
) -> dict[Domain, CropSource]:
    """In a worker: the crops of both domains."""
    return {
        domain: StreamedCrops(ref, share)
        if isinstance(ref, StreamRef)
        else RowCrops(ResidentRows(ref), config.data.crop, labels=domain is Domain.SOURCE)
        for domain, ref in ingest.items()
    }


def choose_mode(config: Config, folders: Mapping[Domain, ShardFolder], store_bytes: float) -> str:
    """ "resident" or "streaming"; `store_bytes` is the smallest object store of a node.

    All nodes with workers map all blocks, so each must have room for everything.
    """
    need = sum(folder.total_bytes for folder in folders.values())
    room = _RESIDENT_SHARE * store_bytes
    wanted = config.ingest.mode
    if wanted == "resident" and need > room:
        raise UserError(
            f"ingest.mode: got resident for {need / 1e9:.1f} GB of shards, want at most "
            f"{room / 1e9:.1f} GB (half of a node's object store), or mode streaming"
        )
    if wanted == "auto":
        fits = need <= room and config.ingest.decode == "worker"
        return "resident" if fits else "streaming"
    return wanted


def object_store_bytes() -> float:
    """The smallest object store of a living node."""
    stores = [
        node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if node["Alive"]
    ]
    return float(min(stores))
