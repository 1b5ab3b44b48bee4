"""Evaluation by a pool of Ray actors: each loads the network once and counts images."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from PIL import Image

from cluster.pool import ActorPool, Work
from uda.checkpoint import load_model
from uda.classes import ClassList, find_class_list
from uda.data.examples import Examples, open_examples
from uda.evaluate import Scored, evaluate_images
from uda.evaluate import evaluate_predictions as count_predictions
from uda.exhibition import Exhibit, exhibit, exhibition, save_sheet
from uda.inference import PLAIN, Inference, SegmentationModel, decode_threads, ready
from uda.judge import Judgement, judge
from uda.label_maps import prediction_files
from uda.report import EvalReport

Load = Callable[[str], SegmentationModel]


def evaluate(
    checkpoint: str | Path,
    data: str | Path | Examples,
    inference: Inference = PLAIN,
    *,
    class_list: ClassList | None = None,
    num_worst: int = 0,
    png: Path | None = None,
    say: Callable[[str], None] | None = None,
    actors: int | None = None,
    gpus_per_actor: float = 0.0,
    pool: ActorPool | None = None,
    progress: bool = True,
    load: Load = load_model,
) -> EvalReport:
    """Scores a checkpoint on labelled images: a folder of shards, or what `open_examples` gives.

    The result does not depend on the number of actors, nor on actors that die on the way.

    - `class_list` is by default the one of the data.
    - `num_worst`, `say`: those of `uda.judge.judge`. The worst images are drawn to `png`.
    - An actor has one CPU and `gpus_per_actor` GPUs; there are by default as many as the cluster
      has room for. A `pool` is used instead of actors of its own. All nodes must see the files
      under the same paths.
    - `load` turns the checkpoint into a network in eval mode.
    """
    examples = data if isinstance(data, Examples) else open_examples(data)
    class_list = class_list or find_class_list(examples.class_list)
    maker = _Maker(str(Path(checkpoint).absolute()), examples, inference, gpus_per_actor, load)
    with _pool(pool, actors, gpus_per_actor) as own:
        chunks = own.run(
            "evaluate",
            maker.counting,
            len(examples),
            progress=progress,
            multiple_of=inference.batch_size,  # so that any number of actors forms the same batches
        )
        judgement = judge(_each(chunks), len(examples), class_list, num_worst=num_worst, say=say)
        if png and judgement.worst:
            save_sheet(_draw(own, maker, judgement, examples), png)
    return judgement.report(examples, checkpoint, inference)


def evaluate_predictions(
    predictions: str | Path,
    data: str | Path | Examples,
    *,
    ids: str = "labelids",
    class_list: ClassList | None = None,
    num_worst: int = 0,
    actors: int | None = None,
    progress: bool = True,
) -> EvalReport:
    """Scores label maps that any program wrote against the labels of the data.

    Files are found by `uda.label_maps.prediction_files`; `ids` says what their pixels hold. The
    report names the folder of predictions where it would name the checkpoint.
    """
    examples = data if isinstance(data, Examples) else open_examples(data)
    class_list = class_list or find_class_list(examples.class_list)
    files = prediction_files(Path(predictions).absolute(), examples.keys)

    def make() -> Work[list[Scored]]:
        return lambda indices: list(count_predictions(files, examples, indices, ids=ids))

    with ActorPool(actors=actors) as pool:
        chunks = pool.run("evaluate", make, len(examples), progress=progress)
        judgement = judge(_each(chunks), len(examples), class_list, num_worst=num_worst)
    return judgement.report(examples, predictions)


class _Maker:
    """Makes, in an actor, the functions that look at images with a network."""

    def __init__(
        self, checkpoint: str, examples: Examples, inference: Inference, gpus: float, load: Load
    ) -> None:
        self.checkpoint = checkpoint
        self.examples = examples
        self.inference = inference
        self.gpus = gpus
        self.load = load

    def network(self) -> SegmentationModel:
        device = "cuda" if self.gpus else "cpu"
        return ready(self.load(self.checkpoint), self.inference, device)

    def counting(self) -> Work[list[Scored]]:
        network, threads = self.network(), decode_threads("cuda" if self.gpus else "cpu")
        return lambda indices: list(
            evaluate_images(network, self.examples, indices, self.inference, threads=threads)
        )

    def drawing(self, numbers: list[int]) -> Callable[[], Work[list[Exhibit]]]:
        def make() -> Work[list[Exhibit]]:
            network = self.network()
            return lambda places: [
                exhibit(network, self.examples, numbers[place], self.inference) for place in places
            ]

        return make


def _draw(pool: ActorPool, maker: _Maker, judgement: Judgement, examples: Examples) -> Image.Image:
    numbers = [score.index for score in judgement.worst]
    drawn: dict[int, Exhibit] = {}
    for places, exhibits in pool.run("draw", maker.drawing(numbers), len(numbers), progress=False):
        drawn.update(zip(places, exhibits, strict=True))
    shown = [drawn[place] for place in range(len(numbers))]
    return exhibition(shown, judgement.worst, examples, judgement.class_list)


def _each(chunks: Iterator[tuple[tuple[int, ...], list[Scored]]]) -> Iterator[Scored]:
    for _, results in chunks:
        yield from results


def _pool(
    pool: ActorPool | None, actors: int | None, gpus: float
) -> AbstractContextManager[ActorPool]:
    return nullcontext(pool) if pool else ActorPool(actors=actors, gpus_per_actor=gpus)
