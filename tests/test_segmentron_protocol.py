"""SegmenTron's way of looking and of printing: against plain references and its own output."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests import reference
from uda.classes import CLASS_NAMES, IGNORE
from uda.evaluate import Scored, in_order
from uda.inference import Inference, class_scores, labels_of
from uda.metrics import Confusion
from uda.segmentron import segmentron_scores, truncated_hits
from uda.segmentron_log import BATCH_SIZE, SegmenTronLog, iou_table
from uda.tally import Tally
from uda.types import Truth, UserError


class Echo(nn.Module):
    """A convolution that notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.seen: list[torch.Tensor] = []

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return images.float()

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        self.seen.append(images.clone())
        return SimpleNamespace(logits=5 * self.convolution(images))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(1)) + 1


def look(model: nn.Module, images: torch.Tensor, **options) -> torch.Tensor:
    return class_scores(model.eval(), images, Inference(protocol="segmentron", **options))


@pytest.mark.parametrize(
    ("crop_size", "size"), [((), (13, 21)), ((12, 20), (12, 20)), ((16, 24), (16, 24))]
)
def test_zeros_are_added_below_and_at_the_right(images, crop_size, size):
    model = Echo()
    assert look(model, images, crop_size=crop_size).shape == (2, 4, 12, 20)
    (seen,) = model.seen
    assert seen.shape[-2:] == size
    assert torch.equal(seen[..., :12, :20], images)
    assert not seen[..., 12:, :].any()
    assert not seen[..., 20:].any()


def test_missing_rows_become_columns_as_in_the_original(images):
    model = Echo()
    look(model, images, crop_size=(17, 22))  # 5 rows and 2 columns are missing
    assert model.seen[0].shape[-2:] == (12 + 2, 20 + 5)


def test_too_small_a_crop_size_is_refused(images):
    with pytest.raises(UserError, match="crop_size: got 11x20, want at least the image's 12x20"):
        look(Echo(), images, crop_size=(11, 20))


@pytest.mark.parametrize(
    ("height", "width", "scale", "expected"),
    [
        (1024, 2048, 0.75, (768, 1536)),
        (100, 301, 0.5, (50, 151)),  # ceil(150.5) = 151; 100 * 151 / 301 = 50.17
        (301, 100, 0.5, (151, 50)),
        (100, 100, 0.333, (34, 34)),
        (99, 200, 1.25, (124, 250)),  # 123.75
    ],
)
def test_scaled_sizes(height, width, scale, expected):
    sizes = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(images.shape[-2:]))
        return images

    image = torch.zeros(1, 1, height, width)
    scores = segmentron_scores(forward, image, scales=(scale,), crop_size=(height, width))
    assert scores.shape == image.shape
    padded = (math.ceil(height * scale), math.ceil(width * scale))
    expected_padded = tuple(e + max(0, p - e) for e, p in zip(expected, padded, strict=True))
    assert sizes == [expected_padded]


def test_scales_and_flip_are_summed_as_logits(images):
    model = Echo()
    expected = torch.zeros(2, 4, 12, 20)
    for rows, columns in ((9, 15), (12, 20), (15, 25)):
        scaled = F.interpolate(images, (rows, columns), mode="bilinear", align_corners=True)
        scale = rows / 12
        padding = (math.ceil(13 * scale) - rows, math.ceil(21 * scale) - columns)
        padded = F.pad(scaled, (0, padding[0], 0, padding[1]))
        with torch.no_grad():
            straight = model(padded).logits[..., :rows, :columns]
            mirrored = torch.flip(model(torch.flip(padded, [3])).logits, [3])
        logits = straight + mirrored[..., :rows, :columns]
        expected += F.interpolate(logits, (12, 20), mode="bilinear", align_corners=True)
    got = look(model, images, scales=(0.75, 1.0, 1.25), flip=True)
    torch.testing.assert_close(got, expected)


def test_truncation_favours_low_classes():
    scores = torch.tensor([[0.2, 0.9], [-0.9, 0.3], [1.9, 1.2], [-1.5, -2.5]])  # pixels x classes
    scores = scores.T.reshape(1, 2, 2, 2)
    assert labels_of(scores).flatten().tolist() == [1, 1, 0, 0]
    # As integers: (0, 0), (0, 0), (1, 1), (-1, -2): the first of equal ones.
    labels = torch.tensor([0, 1, 1, 0], dtype=torch.uint8).reshape(1, 2, 2)
    hits = truncated_hits(scores, labels)
    assert hits.flatten().tolist() == [True, False, False, True]
    ignored = torch.full_like(labels, IGNORE)
    assert not truncated_hits(scores, ignored).any()


def test_truncation_is_that_of_whole_numbers():
    generator = torch.Generator().manual_seed(2)
    scores = 6 * torch.randn(2, 19, 30, 40, generator=generator)
    labels = torch.randint(0, 19, (2, 30, 40), generator=generator).to(torch.uint8)
    expected = scores.long().numpy().argmax(axis=1) == labels.numpy()
    np.testing.assert_array_equal(truncated_hits(scores, labels).numpy(), expected)


def tally_of(seed: int, shape: tuple[int, int] = (30, 40)) -> tuple[Tally, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.choice(np.array([*range(12), IGNORE], np.uint8), shape)
    prediction = np.where(random.random(shape) < 0.6, label, random.integers(0, 12, shape))
    prediction = np.where(prediction == IGNORE, 3, prediction).astype(np.uint8)
    return Tally.of(prediction, Truth(label=label), truncated_hits=seed), prediction, label


def test_log_has_a_line_for_each_batch():
    tallies = [tally_of(seed) for seed in range(6)]
    log = SegmenTronLog(len(tallies))
    assert log.start() == "Start validation, Total sample: 2"
    lines = [log.add(tally) for tally, _, _ in tallies]
    assert [line is not None for line in lines] == [False, False, False, True, False, True]
    assert BATCH_SIZE == 4
    labelled = sum(int((label != IGNORE).sum()) for _, _, label in tallies)
    accuracy = 100 * sum(range(6)) / labelled
    end = log.end(1.5).split("\n", 2)
    assert end[0] == "Eval use time: 1.500 second"
    assert end[1].startswith(f"End validation pixAcc: {accuracy:.3f}, mIoU: ")
    assert end[1].removeprefix("End ") == lines[5].removeprefix("Sample: 2, ")


def test_mean_iou_counts_absent_classes_as_zero():
    tally, prediction, label = tally_of(0)
    iou = reference.confusion(prediction, label)[:, :19]
    union = iou.sum(0) + iou.sum(1) - iou.diagonal()
    expected = [100 * iou[k, k] / union[k] if union[k] else 0 for k in range(19)]
    log = SegmenTronLog(1)
    log.add(tally)
    mean = float(log.end(0.0).split("mIoU: ")[1].split("\n")[0])
    assert mean == pytest.approx(np.mean(expected), abs=6e-4)
    assert np.mean(expected[:12]) > 30, "the classes that are there do count"


def test_table_has_fractions_in_a_grid():
    matrix = np.zeros((19, 19), np.int64)
    matrix[0, 0], matrix[13, 13], matrix[13, 0] = 3, 2, 1
    lines = iou_table(Tally(confusion=Confusion(matrix), images=1)).split("\n")
    assert lines[0] == "+------------+---------------+----------+"
    assert lines[1] == "|  class id  |  class name   |   iou    |"
    assert lines[3] == "|     0      |     road      |   0.75   |"
    assert "0.666667" in lines[3 + 2 * 13]
    assert len(lines) == 2 * 19 + 3
    for name, line in zip(CLASS_NAMES, lines[3::2], strict=True):
        assert name in line


def test_in_order_waits_for_what_is_missing():
    results = [Scored(index=i, tally=Tally()) for i in (2, 0, 3, 1)]
    taken = []

    def feed():
        for result in results:
            taken.append(result.index)
            yield result

    ordered = in_order(feed(), 4)
    assert next(ordered).index == 0
    assert taken == [2, 0], "as soon as it can be given"
    assert [result.index for result in ordered] == [1, 2, 3]
    with pytest.raises(AssertionError, match="image 0 of 2"):
        list(in_order([], 2))
