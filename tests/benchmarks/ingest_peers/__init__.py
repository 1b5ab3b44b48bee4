"""The pipelines that `make bench-ingest` compares, and what one measurement of them needs.

A pipeline is a function `open_...(data, threads)`: a context manager that gives a `Take`. Taking n
means to wait for the next n batches of `transform.BATCH` samples, which may then be used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Take = Callable[[int], None]

OURS_PYTHON, PEERS_PYTHON = Path(".venv/bin/python"), Path(".venv-peers/bin/python")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Where a pipeline is found and how it is measured."""

    title: str
    opened_by: str  # module of this package, function
    kind: str = "peer"  # or ours, floor, other
    in_peers: bool = False  # runs in the environment of the peers
    part: float = 1.0  # of the samples: slow ones take fewer, fast ones more
    warm_up_s: float = 2.0
    paced: bool = False  # measured with a slow trainer, too


def _peer(title: str, opened_by: str) -> Pipeline:
    return Pipeline(title=title, opened_by=opened_by, in_peers=True)


def _on_ray(title: str, opened_by: str, kind: str) -> Pipeline:
    return Pipeline(title=title, opened_by=opened_by, kind=kind, part=2, warm_up_s=4, paced=True)


PIPELINES = {
    "floor": Pipeline(
        title="floor: inline loop, decodes the crop", opened_by="inline:open_crop", kind="floor"
    ),
    "floor_full": Pipeline(
        title="inline loop, decodes the whole", opened_by="inline:open_whole", kind="other"
    ),
    "torch_png": Pipeline(
        title="torch DataLoader, PNG by PIL", opened_by="torch_loader:open_png", part=0.25
    ),
    "torch_f32": Pipeline(title="torch DataLoader", opened_by="torch_loader:open_float"),
    "torch_u8": Pipeline(title="torch DataLoader, uint8", opened_by="torch_loader:open_uint8"),
    "webdataset": _peer("WebDataset, uint8", "tar_shards:open_tars"),
    "mosaic": _peer("MosaicML Streaming, uint8", "mosaic:open_mds"),
    "litdata": _peer("LitData, uint8", "lightning:open_chunks"),
    "spdl_f32": _peer("SPDL threads", "spdl_threads:open_float"),
    "spdl_u8": _peer("SPDL threads, uint8", "spdl_threads:open_uint8"),
    "grain_f32": _peer("Grain threads", "grain_threads:open_float"),
    "grain_u8": _peer("Grain threads, uint8", "grain_threads:open_uint8"),
    "ray_data": _on_ray("Ray Data, our codec and threads", "ray_data:open_split", "other"),
    "ours_streaming": _on_ray("ours, streaming", "ours:open_streaming", "ours"),
    "ours_resident": _on_ray("ours, resident", "ours:open_resident", "ours"),
    "ours_local": Pipeline(
        title="ours, one process without Ray", opened_by="ours:open_local", kind="ours", part=2
    ),
}
