"""Label-free quality by a pool of Ray actors: each loads the network once and observes images."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cluster.pool import ActorPool, Work
from uda.checkpoint import load_model
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.inference import PLAIN, decode_threads, ready
from uda.models import DeepLabV3Plus
from uda.observe import observe_source, observe_target
from uda.quality import Evidence, SourceStatistics, Statistics
from uda.quality.score import Score, score
from uda.quality.subset import IMAGES, chosen_images

Load = Callable[[str], DeepLabV3Plus]
Sum = TypeVar("Sum", Statistics, SourceStatistics)


def score_checkpoint(
    checkpoint: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    images: int = IMAGES,
    pool: ActorPool,
    gpus_per_actor: float = 0.0,
    progress: bool = True,
    load: Load = load_model,
) -> Score:
    """How well a checkpoint has come to the target, without any of its labels.

    The result does not depend on the number of actors. `source` and `target` are folders of shards
    that all nodes see, of which up to `images` each are looked at; the source's have labels.
    """
    path = str(Path(checkpoint).absolute())
    folders = [str(Path(folder).absolute()) for folder in (source, target)]
    chosen = [chosen_images(len(open_shards(folder)), images) for folder in folders]

    device = "cuda" if gpus_per_actor else "cpu"
    threads = decode_threads(device)

    def network() -> DeepLabV3Plus:
        return ready(load(path), PLAIN, device)

    def on_source() -> Work[SourceStatistics]:
        model, rows, numbers = network(), ShardRows(folders[0], labels=True), chosen[0]
        return lambda places: sum(
            observe_source(model, rows, [numbers[p] for p in places], decode_threads=threads),
            SourceStatistics(),
        )

    def on_target() -> Work[Statistics]:
        model, rows, numbers = network(), ShardRows(folders[1], labels=False), chosen[1]
        return lambda places: sum(
            observe_target(model, rows, [numbers[p] for p in places], decode_threads=threads),
            Statistics(),
        )

    def run(name: str, make: Callable[[], Work[Sum]], count: int, start: Sum) -> Sum:
        for _, part in pool.run(name, make, count, progress=progress):
            start += part
        return start

    evidence = Evidence(
        source=run("source", on_source, len(chosen[0]), SourceStatistics()),
        target=run("target", on_target, len(chosen[1]), Statistics()),
    )
    return score(evidence)
