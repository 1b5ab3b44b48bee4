"""Label maps for a folder of images, by a pool of Ray actors."""

from collections.abc import Callable
from pathlib import Path

from cluster.pool import Work, run_pool
from uda.checkpoint import load_model
from uda.data.image_files import ImageFiles
from uda.inference import Inference, SegmentationModel, decode_threads, ready
from uda.predict import predict_images


def predict(
    checkpoint: str | Path,
    images: ImageFiles,
    out: Path,
    form: str,
    inference: Inference,
    *,
    actors: int | None = None,
    gpus_per_actor: float = 0.0,
    progress: bool = True,
    load: Callable[[str], SegmentationModel] = load_model,
) -> int:
    """Writes a map for each image, see `uda.label_maps.FORMATS`; returns how many.

    Actors are those of `cluster.evaluate.evaluate`; all nodes must see the files and `out`.
    """
    path, out = str(Path(checkpoint).absolute()), out.absolute()

    def make() -> Work[int]:
        network = ready(load(path), inference, "cuda" if gpus_per_actor else "cpu")
        threads = decode_threads("cuda" if gpus_per_actor else "cpu")
        return lambda indices: predict_images(
            network, images, indices, out, form, inference, threads=threads
        )

    written = run_pool(
        "predict",
        make,
        len(images),
        actors=actors,
        gpus_per_actor=gpus_per_actor,
        progress=progress,
        multiple_of=inference.batch_size,
    )
    return sum(count for _, count in written)
