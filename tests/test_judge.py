"""What is said of all images: sums, the worst of them, and SegmenTron's lines while it goes on."""

import itertools
import math

import numpy as np
import pytest

from uda.classes import CLASS_LISTS, IGNORE
from uda.evaluate import Scored
from uda.inference import Inference
from uda.judge import judge
from uda.tally import Tally
from uda.types import Truth

CITYSCAPES = CLASS_LISTS["cityscapes19"]


class Names:
    """Examples of which only the names matter."""

    class_list, path = "cityscapes19", "somewhere"
    keys = tuple(f"image_{index}" for index in range(6))

    def __len__(self) -> int:
        return len(self.keys)

    def pair(self, index: int):
        raise AssertionError("nobody looks")

    def truth(self, index: int):
        raise AssertionError("nobody looks")


def scored(index: int, share_right: float) -> Scored:
    """100 pixels of two classes, of which some are right; images 3 and 4 are equally good."""
    label = np.repeat(np.uint8([0, 13]), 50).reshape(10, 10)
    prediction = np.where(np.arange(100).reshape(10, 10) % 50 < 50 * share_right, label, 5)
    tally = Tally.of(prediction.astype(np.uint8), Truth(label=label), truncated_hits=index)
    return Scored(index=index, tally=tally)


RESULTS = [scored(i, share) for i, share in enumerate((0.9, 0.2, 0.6, 0.4, 0.4, 1.0))]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (3, 0, 5, 1, 4, 2)])
@pytest.mark.parametrize("num_worst", [0, 1, 3, 6, 20])
def test_order_does_not_matter(order, num_worst):
    judgement = judge([RESULTS[i] for i in order], 6, CITYSCAPES, num_worst=num_worst)
    assert judgement.tally.images == 6
    whole = sum((result.tally.confusion.matrix for result in RESULTS), 0)
    assert np.array_equal(judgement.tally.confusion.matrix, whole)
    assert [score.index for score in judgement.worst] == [1, 3, 4, 2, 0, 5][:num_worst]


def test_worst_have_their_scores():
    worst = judge(RESULTS, 6, CITYSCAPES, num_worst=2).worst
    assert worst[0].pixel_accuracy == pytest.approx(0.2)
    # road and car have IoU 0.2 each, the pole that was seen instead has 0
    assert worst[0].miou == pytest.approx(0.4 / 3)


def test_image_without_labels_is_not_the_worst():
    nothing = np.full((4, 4), IGNORE, np.uint8)
    empty = Scored(index=0, tally=Tally.of(np.zeros_like(nothing), Truth(label=nothing)))
    assert math.isnan(empty.tally.confusion.miou(CITYSCAPES))
    judgement = judge([empty, RESULTS[1]], 2, CITYSCAPES, num_worst=2)
    assert [score.index for score in judgement.worst] == [1]


def test_lines_come_in_order_and_as_soon_as_they_can():
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 97):
        said: list[str] = []
        seen: list[int] = []

        def results(order=order, seen=seen, said=said):
            for index in order:
                seen.append(index)
                if set(range(4)) <= set(seen[:-1]):
                    assert len(said) >= 2, "the first four are done"
                yield RESULTS[index]

        judge(results(), 6, CITYSCAPES, say=said.append)
        assert [line.split(",")[0] for line in said[:3]] == [
            "Start validation",
            "Sample: 1",
            "Sample: 2",
        ]
        assert said[3].split("\n")[1].startswith("End validation pixAcc: 2.500, mIoU:")  # 15 / 600
        assert len(said) == 4


def test_report_names_images_and_how_they_were_seen():
    inference = Inference(flip=True, protocol="segmentron")
    judgement = judge(RESULTS, 6, CITYSCAPES, num_worst=1)
    result = judgement.report(Names(), "runs/a", inference).json()
    assert result["worst"] == [
        {"key": "image_1", "miou": pytest.approx(0.4 / 3), "pixel_accuracy": pytest.approx(0.2)}
    ]
    assert (result["checkpoint"], result["data"], result["images"]) == ("runs/a", "somewhere", 6)
    assert (result["protocol"], result["inference"]["flip"]) == ("segmentron", True)
    assert judgement.report(Names(), "results").json()["inference"] == {}
