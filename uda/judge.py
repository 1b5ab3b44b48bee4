"""From the counts of single images to what is said of all: their sum, the worst of them, a log."""

import heapq
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from uda.classes import ClassList
from uda.data.examples import Examples
from uda.evaluate import Scored, in_order
from uda.inference import Inference
from uda.report import EvalReport
from uda.segmentron_log import SegmenTronLog
from uda.tally import Tally


@dataclass(frozen=True, kw_only=True, order=True)
class ImageScore:
    """Mean IoU over the classes that are in an image or predicted there, and pixel accuracy."""

    miou: float
    index: int
    pixel_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """`tally` of all images; `worst` are those of the lowest mean IoU, the worst one first."""

    tally: Tally
    worst: list[ImageScore]
    class_list: ClassList

    def report(
        self, examples: Examples, judged: str | Path, inference: Inference | None = None
    ) -> EvalReport:
        """What is printed and written: `judged` is the checkpoint or the folder of predictions."""
        return EvalReport.of(
            self.tally,
            self.class_list,
            protocol=inference.protocol if inference else "cityscapes",
            worst=[
                {
                    "key": examples.keys[score.index],
                    "miou": score.miou,
                    "pixel_accuracy": score.pixel_accuracy,
                }
                for score in self.worst
            ],
            checkpoint=str(judged),
            data=examples.path,
            inference=asdict(inference) if inference else {},
        )


def judge(
    results: Iterable[Scored],
    num_images: int,
    class_list: ClassList,
    *,
    num_worst: int = 0,
    say: Callable[[str], None] | None = None,
) -> Judgement:
    """Adds up the results of all images, which come in any order; the answer does not depend on it.

    `say` is given the lines that SegmenTron would print, each as soon as its images are done.
    """
    started = time.perf_counter()
    log = SegmenTronLog(num_images)
    if say:
        say(log.start())
        results = in_order(results, num_images)
    tally, scores = Tally(), _Lowest(num_worst)
    for scored in results:
        tally += scored.tally
        scores.add(_score(scored, class_list))
        if say and (line := log.add(scored.tally)):
            say(line)
    if say:
        say(log.end(time.perf_counter() - started))
    return Judgement(tally=tally, worst=scores.sorted(), class_list=class_list)


class _Lowest:
    """The `most` lowest scores that were added."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, int, ImageScore]] = []  # the highest of them on top

    def add(self, score: ImageScore) -> None:
        if self._most == 0 or math.isnan(score.miou):
            return
        item = (-score.miou, -score.index, score)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def sorted(self) -> list[ImageScore]:
        return sorted(score for _, _, score in self._heap)


def _score(scored: Scored, class_list: ClassList) -> ImageScore:
    confusion = scored.tally.confusion
    return ImageScore(
        miou=confusion.miou(class_list),
        index=scored.index,
        pixel_accuracy=confusion.pixel_accuracy(class_list),
    )
