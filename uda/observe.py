"""Looking at images for `uda.quality`: one image in, its statistics out.

An image's statistics depend on the network, the image and its number alone: not on its neighbours,
nor on who looks at it. Target images come without labels, from readers that do not read them.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from uda.classes import NUM_CLASSES, ClassDistribution
from uda.data.augment import Photometric
from uda.data.decode import decode_row, row_window
from uda.data.rows import RowReader
from uda.evaluate import ahead
from uda.inference import Answer, answer, labels_of
from uda.metrics import Confusion
from uda.models import DeepLabV3Plus
from uda.quality.sample import PER_IMAGE, PixelSample, lowest
from uda.quality.statistics import FIXED, SourceStatistics, Statistics
from uda.randomness import generator

_SEED = 0  # of all that is drawn here: every network is asked the same questions
_SCALES = {"small": 0.75, "large": 1.25}
_DROPPED = 0.1  # share of the pyramid's channels, as in training
_IMPRESSION = (32, 64)
_CAMERA = Photometric(
    jitter_probability=1.0,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.03,
    blur_probability=0.5,
    noise_probability=0.5,
    noise_sigma=(0.01, 0.04),
)
_ADVICE = "score on GPUs that do nothing else, or on CPUs"


def observe_target(
    model: DeepLabV3Plus,
    rows: RowReader,
    indices: Iterable[int],
    *,
    decode_threads: int = 0,
    impressions: bool = False,
) -> Iterator[Statistics]:
    """One image after the other, where the model is; it is in eval mode.

    `impressions` as `observe_image` has it. UserError names the first row that does not decode.
    """
    with ThreadPoolExecutor(decode_threads) if decode_threads else nullcontext() as pool:
        for index, image in ahead(lambda i: (i, _image(rows, i)), indices, pool, decode_threads):
            yield observe_image(model, image, index, impressions=impressions)


def observe_source(
    model: DeepLabV3Plus, rows: RowReader, indices: Iterable[int], *, decode_threads: int = 0
) -> Iterator[SourceStatistics]:
    """The same of labelled images; `rows` are read with their labels."""
    with ThreadPoolExecutor(decode_threads) if decode_threads else nullcontext() as pool:
        for index, (image, label) in ahead(
            lambda i: (i, decode_row(rows.row(i))), indices, pool, decode_threads
        ):
            yield observe_labelled(model, image, label, index)


@torch.inference_mode()
def observe_image(
    model: DeepLabV3Plus,
    image: UInt8[np.ndarray, "H W 3"],
    index: int,
    *,
    impressions: bool = False,
) -> Statistics:
    """What `uda.quality` wants to know of one image; `index` seeds what is drawn for it.

    With its impression, of 39 kB, only where asked: none but an ensemble compares them.
    """
    pixels = _pixels(image)
    look = _Look(model, pixels)
    if not look.is_finite:
        return Statistics(images=1, broken=1)
    views = {}
    for name, scores in _views(model, pixels, look, index):  # one at a time: they are large
        if not bool(scores.isfinite().all()):
            return Statistics(images=1, broken=1)
        said = labels_of(scores)[0].cpu().numpy()
        views[name] = Confusion.of(said, look.labels).matrix
    return Statistics(
        images=1,
        predicted=ClassDistribution.of_label(look.labels).pixels,
        positions=look.probabilities[0].numel(),
        mass=_fixed(look.probabilities).sum((1, 2)),
        entropy=int(_fixed(look.entropy).sum()),
        views=views,
        sample=_sample(look, look.grid_labels, index),
        impressions={index: _impression(look.probabilities)} if impressions else {},
    )


@torch.inference_mode()
def observe_labelled(
    model: DeepLabV3Plus,
    image: UInt8[np.ndarray, "H W 3"],
    label: UInt8[np.ndarray, "H W"],
    index: int,
) -> SourceStatistics:
    """The same of a source image, whose pixels are sampled by their true class."""
    look = _Look(model, _pixels(image))
    if not look.is_finite:
        return SourceStatistics(seen=Statistics(images=1, broken=1))
    rows, columns = (axis.cpu().numpy() for axis in look.grid)
    seen = Statistics(
        images=1,
        predicted=ClassDistribution.of_label(look.labels).pixels,
        positions=look.probabilities[0].numel(),
        mass=_fixed(look.probabilities).sum((1, 2)),
        entropy=int(_fixed(look.entropy).sum()),
        sample=_sample(look, label[rows[:, None], columns], index),
    )
    return SourceStatistics(seen=seen, confusion=Confusion.of(look.labels, label))


class _Look:
    """A network's answer to one image, and what is read off it at the size of its decoder."""

    def __init__(self, model: DeepLabV3Plus, pixels: UInt8[Tensor, "1 3 H W"]) -> None:
        assert not model.training, "call model.eval() first: an image must not see its neighbours"
        self.images = _normalised(model, pixels)
        output = _ask(model, self.images)
        self.features = {name: output.features[name] for name in ("aspp", "layer1")}
        self.is_finite = bool(output.logits.isfinite().all())
        self.labels: UInt8[np.ndarray, "H W"] = labels_of(output.logits)[0].cpu().numpy()
        self.decoder: Float[Tensor, "D h w"] = output.features["decoder"][0]
        self.grid = tuple(
            ((torch.arange(n, device=self.images.device) + 0.5) * size / n).long()
            for n, size in zip(self.decoder.shape[1:], pixels.shape[2:], strict=True)
        )
        logits = output.logits[0][:, self.grid[0][:, None], self.grid[1]].float()
        self.probabilities: Float[Tensor, "K h w"] = logits.softmax(0)
        self.entropy: Float[Tensor, "h w"] = torch.special.entr(self.probabilities).sum(0)

    @property
    def grid_labels(self) -> UInt8[np.ndarray, "h w"]:
        return self.probabilities.argmax(0).to(torch.uint8).cpu().numpy()


def _views(
    model: DeepLabV3Plus, pixels: Tensor, look: _Look, index: int
) -> Iterator[tuple[str, Float[Tensor, "1 K H W"]]]:
    """What is said of the image when it, or its features, are perturbed."""
    images, size = look.images, pixels.shape[2:]
    # On the CPU, as a GPU's random numbers are others: on both the same question is asked.
    camera = _CAMERA(pixels.float() / 255, [generator(_SEED, "quality camera", index)])
    camera = (255 * camera).round().to(torch.uint8)
    yield "photometric", _ask(model, _normalised(model, camera)).logits
    yield "flip", _ask(model, images.flip(3)).logits.flip(3)

    def at_own_size(scaled: Tensor) -> Tensor:
        return F.interpolate(model(scaled).logits, size, mode="bilinear")

    for name, scale in _SCALES.items():
        scaled = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=scale < 1)
        yield name, _ask(at_own_size, scaled)
    channels = look.features["aspp"].shape[1]
    kept = generator(_SEED, "quality dropout", index).random(channels) >= _DROPPED
    mask = torch.as_tensor(kept / (1 - _DROPPED), dtype=torch.float32, device=images.device)
    dropped = {**look.features, "aspp": look.features["aspp"] * mask[:, None, None]}
    yield "dropout", _ask(partial(model.decode, dropped), images).logits


def _ask(network: Callable[[Tensor], Answer], images: Float[Tensor, "1 3 h w"]) -> Answer:
    return answer(network, images, advice=_ADVICE)


def _sample(look: _Look, labels: UInt8[np.ndarray, "h w"], index: int) -> PixelSample:
    """Some pixels of each class in `labels`, by lot."""
    flat = labels.ravel()
    lottery = generator(_SEED, "quality sample", index).integers(2**63, size=flat.size)
    known = np.flatnonzero(flat < NUM_CLASSES)
    chosen = known[lowest(flat[known], lottery[known], PER_IMAGE)]
    places = torch.as_tensor(chosen, device=look.decoder.device)
    return PixelSample(
        classes=flat[chosen],
        lottery=lottery[chosen].astype(np.uint64),
        features=_columns(F.normalize(look.decoder, dim=0), places),
        probabilities=_columns(look.probabilities, places),
    )


def _columns(maps: Float[Tensor, "D h w"], places: Tensor) -> np.ndarray:
    return maps.flatten(1)[:, places].T.to(torch.float16).cpu().numpy()


def _impression(probabilities: Float[Tensor, "K h w"]) -> UInt8[np.ndarray, "K y x"]:
    height, width = (min(a, b) for a, b in zip(_IMPRESSION, probabilities.shape[1:], strict=True))
    coarse = F.adaptive_avg_pool2d(probabilities[None], (height, width))[0]
    return (255 * coarse).round().to(torch.uint8).cpu().numpy()


def _fixed(values: Tensor) -> np.ndarray:
    """As whole numbers of a part of `FIXED`, whose sums are the same in any order."""
    return (values.double() * FIXED).round().long().cpu().numpy()


def _pixels(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "1 3 H W"]:
    """On the CPU, whatever the model is on."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def _normalised(model: DeepLabV3Plus, pixels: UInt8[Tensor, "1 3 H W"]) -> Float[Tensor, "1 3 H W"]:
    """Where the model is."""
    return model.normalise(pixels.to(next(model.parameters()).device))


def _image(rows: RowReader, index: int) -> np.ndarray:
    row = rows.row(index)
    assert row.label is None, "quality is measured on rows that are read without labels"
    return row_window(row, 0, 0, row.height, row.width)
