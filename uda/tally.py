"""Tally: all that one pass over labelled images counts, whatever protocol is to be scored by.

Everything in it is a whole number, so that sums do not depend on order, grouping or actors.
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from jaxtyping import UInt8

from uda.classes import LABEL_ID_OF_TRAIN_ID
from uda.metrics import Confusion
from uda.official import IdConfusion, InstanceCounts
from uda.types import Truth


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Counts over `images` images. Adds with `+`.

    `ids` and `instances` cover the `with_ids` and `with_instances` images whose truth has them.
    `truncated_hits` are the hits of SegmenTron's pixAcc, over `with_truncated` images.
    """

    confusion: Confusion = field(default_factory=Confusion.empty)
    images: int = 0
    ids: IdConfusion = field(default_factory=IdConfusion.empty)
    with_ids: int = 0
    instances: InstanceCounts = field(default_factory=InstanceCounts.empty)
    with_instances: int = 0
    truncated_hits: int = 0
    with_truncated: int = 0

    @classmethod
    def of(
        cls,
        prediction: UInt8[np.ndarray, "H W"],
        truth: Truth,
        *,
        truncated_hits: int | None = None,
    ) -> "Tally":
        """Counts of one image; `prediction` holds trainIds, 255 = none of the 19."""
        if truth.label_ids is None:
            tally = cls(images=1, confusion=Confusion.of(prediction, truth.label))
        else:
            tally = cls.of_ids(cv2.LUT(prediction, LABEL_ID_OF_TRAIN_ID), truth)
        if truncated_hits is None:
            return tally
        return replace(tally, truncated_hits=truncated_hits, with_truncated=1)

    @classmethod
    def of_ids(cls, prediction_ids: UInt8[np.ndarray, "H W"], truth: Truth) -> "Tally":
        """Of a prediction that may tell more Cityscapes ids apart than 19, as the truth does."""
        assert truth.label_ids is not None, "the truth has trainIds alone"
        ids = IdConfusion.of(prediction_ids, truth.label_ids)
        tally = cls(images=1, confusion=ids.confusion, ids=ids, with_ids=1)
        if truth.instance_ids is None:
            return tally
        instances = InstanceCounts.of(prediction_ids, truth.instance_ids)
        return replace(tally, instances=instances, with_instances=1)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            confusion=self.confusion + other.confusion,
            images=self.images + other.images,
            ids=self.ids + other.ids,
            with_ids=self.with_ids + other.with_ids,
            instances=self.instances + other.instances,
            with_instances=self.with_instances + other.with_instances,
            truncated_hits=self.truncated_hits + other.truncated_hits,
            with_truncated=self.with_truncated + other.with_truncated,
        )

    @property
    def has_ids(self) -> bool:
        """Whether the truth of every image has Cityscapes ids."""
        return 0 < self.with_ids == self.images

    @property
    def has_instances(self) -> bool:
        """Whether the truth of every image tells its objects apart."""
        return 0 < self.with_instances == self.images

    @property
    def has_truncated(self) -> bool:
        """Whether SegmenTron's pixAcc was counted in every image."""
        return 0 < self.with_truncated == self.images
