"""What is in a shard folder, in numbers: sizes, classes, and what was left out and why."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from uda.classes import CLASS_LISTS, NUM_CLASSES
from uda.data.shards import ShardFolder

_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """`share` is that of all labelled pixels, 0..1; `images` are those that show the class."""

    name: str
    train_id: int
    scored: bool  # in the data set's class list
    share: float
    images: int


@dataclass(frozen=True, kw_only=True)
class SizeSummary:
    """So many samples of one size."""

    width: int
    height: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class QuarantineSummary:
    """Inputs that were left out for reasons of one kind, and the first few of them."""

    kind: str
    inputs: int
    examples: tuple[str, ...]  # KEY: REASON


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """The numbers of a folder. `ignored` is the share without class of the labelled images."""

    folder: str
    dataset: str
    domain: str
    split: str
    class_list: str
    image_codec: str
    inputs: int
    samples: int
    labelled: int
    quarantined: int
    shards: int
    bytes: int
    sizes: tuple[SizeSummary, ...]  # the most frequent first
    ignored: float
    classes: tuple[ClassSummary, ...]
    quarantine: tuple[QuarantineSummary, ...]  # the most frequent first
    digest: str  # names exactly these data
    made_by: dict[str, Any]


def summarize(folder: ShardFolder) -> ShardSummary:
    """Reads the small tables, no image. UserError where one is damaged."""
    manifest = folder.manifest
    table = folder.samples(["height", "width", "label_bytes"])
    labelled = table["label_bytes"].is_valid().to_numpy()
    statistics = folder.statistics(labels=True)
    pixels = int(statistics.pixels[labelled].sum())
    ignored = pixels - int(statistics.class_pixels.sum())
    return ShardSummary(
        folder=str(folder.path),
        dataset=manifest.dataset,
        domain=manifest.domain,
        split=manifest.split,
        class_list=manifest.class_list,
        image_codec=manifest.image_codec,
        inputs=manifest.inputs,
        samples=manifest.samples,
        labelled=int(labelled.sum()),
        quarantined=manifest.quarantined,
        shards=len(manifest.shards),
        bytes=folder.total_bytes,
        sizes=_sizes(table["width"].to_pylist(), table["height"].to_pylist()),
        ignored=ignored / max(1, pixels),
        classes=_classes(statistics.class_pixels, manifest.class_list),
        quarantine=_quarantine(folder),
        digest=manifest.digest,
        made_by=dict(manifest.made_by),
    )


def _sizes(widths: list[int], heights: list[int]) -> tuple[SizeSummary, ...]:
    counts = Counter(zip(widths, heights, strict=True))
    return tuple(
        SizeSummary(width=width, height=height, samples=samples)
        for (width, height), samples in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    )


def _classes(pixels: np.ndarray, list_name: str) -> tuple[ClassSummary, ...]:
    """Those of the list, seen or not, and what else is in the labels."""
    class_list = CLASS_LISTS[list_name]
    total = pixels.sum(axis=0)
    images = (pixels > 0).sum(axis=0)
    return tuple(
        ClassSummary(
            name=class_list.class_name(k),
            train_id=k,
            scored=k in class_list.scored,
            share=float(total[k] / max(1, total.sum())),
            images=int(images[k]),
        )
        for k in range(NUM_CLASSES)
        if k in class_list.scored or total[k]
    )


def _quarantine(folder: ShardFolder) -> tuple[QuarantineSummary, ...]:
    kinds: dict[str, list[str]] = {}
    for bad in folder.quarantine():
        kinds.setdefault(bad.kind, []).append(f"{bad.key}: {bad.reason}")
    return tuple(
        QuarantineSummary(kind=kind, inputs=len(lines), examples=tuple(lines[:_EXAMPLES]))
        for kind, lines in sorted(kinds.items(), key=lambda each: (-len(each[1]), each[0]))
    )
