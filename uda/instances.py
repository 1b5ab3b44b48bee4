"""How much of each labelled object was found: the counts behind the official iIoU of Cityscapes.

An instance map holds 1000 * id + number where objects are told apart, and ids, at most 1000,
where they are not. Classes and their categories are those of the Cityscapes table.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer, Shaped, UInt8
from torch import Tensor
from torchvision.datasets import Cityscapes

from uda.classes import NUM_LABEL_IDS
from uda.types import UserError

# By id, 0..33: all that stand in files.
ID_TABLE = tuple(sorted((c for c in Cityscapes.classes if c.id >= 0), key=lambda c: c.id))
_PER_ID = 1000  # instance ids: 1000 * id + number
_CODES = 64  # more than ids, and a power of 2

INSTANCE_CLASSES = tuple(c for c in ID_TABLE if c.has_instances and not c.ignore_in_eval)
# All ids, also ignored ones, of the categories that consist of objects.
INSTANCE_GROUPS: dict[str, tuple[int, ...]] = {
    category: tuple(c.id for c in ID_TABLE if c.category == category)
    for category in dict.fromkeys(c.category for c in ID_TABLE)
    if all(c.has_instances for c in ID_TABLE if c.category == category)
}

# A share of an instance is rounded down to a whole number of 2**-80; sums of these are exact.
_ONE = 2**80

Ids = Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]


@dataclass(frozen=True)
class InstanceCounts:
    """By class of INSTANCE_CLASSES: how many instances, and how much of them was predicted right.

    `class_hits` sums the share of each instance that was predicted as its class, `category_hits`
    that predicted as any class of its category, both in units of 2**-80. Adds with `+`, exactly.
    """

    num_instances: tuple[int, ...]
    class_hits: tuple[int, ...]
    category_hits: tuple[int, ...]

    @classmethod
    def empty(cls) -> "InstanceCounts":
        nothing = (0,) * len(INSTANCE_CLASSES)
        return cls(nothing, nothing, nothing)

    @classmethod
    def of(cls, prediction_ids: Ids, instance_ids: Ids) -> "InstanceCounts":
        """Counts of one image: Cityscapes ids 0..33 that were predicted, and its instance map.

        Arrays or tensors of one shape. Instances of ignored classes do not count. UserError for
        another shape, for ids that there are not, and for instances of a class without any. In a
        batch, equal instance ids would be taken for one object.
        """
        predicted, truth = _array(prediction_ids), _array(instance_ids)
        _check(predicted, truth)
        instances, pixels = _count(predicted.astype(np.uint8, copy=False), truth)
        num_instances, class_hits, category_hits = (
            dict.fromkeys((c.id for c in INSTANCE_CLASSES), 0) for _ in range(3)
        )
        sizes = pixels.sum(axis=1).tolist()
        for instance, size, row in zip(instances.tolist(), sizes, pixels, strict=True):
            label_id = instance // _PER_ID
            if ID_TABLE[label_id].ignore_in_eval:
                continue
            if label_id not in num_instances:
                name, have = ID_TABLE[label_id].name, ", ".join(c.name for c in INSTANCE_CLASSES)
                raise UserError(f"instances: got {instance}, an object of {name}; have {have}")
            members = list(INSTANCE_GROUPS[ID_TABLE[label_id].category])
            num_instances[label_id] += 1
            class_hits[label_id] += int(row[label_id]) * _ONE // size
            category_hits[label_id] += int(row[members].sum()) * _ONE // size
        return cls(*(tuple(d.values()) for d in (num_instances, class_hits, category_hits)))

    def __add__(self, other: "InstanceCounts") -> "InstanceCounts":
        return InstanceCounts(
            _sum(self.num_instances, other.num_instances),
            _sum(self.class_hits, other.class_hits),
            _sum(self.category_hits, other.category_hits),
        )

    def hit_share(self, k: int, *, by_category: bool = False) -> float:
        """Sum over the instances of the k-th class of the share that was predicted right."""
        return (self.category_hits if by_category else self.class_hits)[k] / _ONE

    def missed_share(self, k: int, *, by_category: bool = False) -> float:
        """The rest of `hit_share`: together they are the number of instances."""
        hits = (self.category_hits if by_category else self.class_hits)[k]
        return (self.num_instances[k] * _ONE - hits) / _ONE


def _sum(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _array(values: Ids) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else values


def _check(predicted: Integer[np.ndarray, "..."], truth: Integer[np.ndarray, "..."]) -> None:
    if predicted.shape != truth.shape:
        raise UserError(
            f"prediction: got shape {predicted.shape}, want that of the instances, {truth.shape}"
        )
    for name, values, end in (
        ("prediction", predicted, NUM_LABEL_IDS),
        ("instances", truth, NUM_LABEL_IDS * _PER_ID),
    ):
        lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
        if lowest < 0 or highest >= end:
            wrong = lowest if lowest < 0 else highest
            raise UserError(f"{name}: got id {wrong}, want 0..{end - 1}")


def _count(
    predicted: UInt8[np.ndarray, "..."], truth: Integer[np.ndarray, "..."]
) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "N P"]]:
    """Instance ids above 1000, and pixels of each by what was predicted there.

    Most pixels belong to no instance: they are left out by blocks of 8, which is quicker than one
    by one. What is left is counted by runs of pixels that are alike.
    """
    flat_predicted, flat_truth = predicted.ravel(), truth.ravel()
    if padding := -flat_truth.size % 8:
        flat_predicted, flat_truth = (np.pad(a, (0, padding)) for a in (flat_predicted, flat_truth))
    blocks = np.flatnonzero((flat_truth > _PER_ID).view(np.uint64) != 0)
    codes = flat_truth.reshape(-1, 8).take(blocks, axis=0).astype(np.int64) * _CODES
    codes += flat_predicted.reshape(-1, 8).take(blocks, axis=0)
    codes = codes.reshape(-1)
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])[: codes.size])
    lengths = np.diff(starts, append=codes.size)
    codes = codes[starts]
    counted = codes >= (_PER_ID + 1) * _CODES
    instances, rows = np.unique(codes[counted] // _CODES, return_inverse=True)
    cells = rows * _CODES + codes[counted] % _CODES
    counts = np.bincount(cells, lengths[counted], len(instances) * _CODES)
    return instances, counts.astype(np.int64).reshape(-1, _CODES)
