"""Where the crops of one domain come from: what stands between a plan and a batch."""

import logging
import threading
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from uda.data.crop import CropConfig, load_crop
from uda.data.rows import RowReader
from uda.data.sampling import PlanItem
from uda.types import UserError

Crop = tuple[np.ndarray, np.ndarray | None]  # (H, W, 3) uint8 RGB; (H, W) uint8 trainIds

_log = logging.getLogger(__name__)


@runtime_checkable
class CropSource(Protocol):
    """The crops of one domain, by their positions in its plan."""

    def __len__(self) -> int:
        """The number of different samples."""
        ...

    def start(self, first_step: int) -> None:
        """The positions asked for from now on are those of this worker from `first_step` on."""
        ...

    def crop(self, position: int, item: PlanItem) -> Crop:
        """The crop of `item`, which the plan has at `position`; called from many threads.

        UserError names the shard and row that cannot be read.
        """
        ...

    def close(self) -> None:
        """Gives back what was fetched ahead."""
        ...


class RowCrops:
    """Crops decoded here, from rows that can be read in any order."""

    def __init__(self, rows: RowReader, config: CropConfig, *, labels: bool) -> None:
        self._rows = rows
        self._config = config
        self._labels = labels

    def __len__(self) -> int:
        return len(self._rows)

    def start(self, first_step: int) -> None:
        pass

    def crop(self, position: int, item: PlanItem) -> Crop:
        return load_crop(self._rows.row(item.sample), item, self._config, labels=self._labels)

    def close(self) -> None:
        pass


class SkipBadRows:
    """The crops of another source, where a sample that cannot be used is replaced by the next one.

    So which sample stands in depends on the data alone: not on workers, threads or the way the
    samples came. More than `max_bad_rows` different bad ones are a UserError.
    """

    def __init__(self, crops: CropSource, spare: CropSource, max_bad_rows: int) -> None:
        """`spare` makes crops of the same samples, at any position."""
        self._crops = crops
        self._spare = spare
        self._max_bad_rows = max_bad_rows
        self._bad: set[int] = set()
        self._lock = threading.Lock()

    @property
    def bad_rows(self) -> int:
        """How many different samples were skipped so far."""
        return len(self._bad)

    def __len__(self) -> int:
        return len(self._crops)

    def start(self, first_step: int) -> None:
        self._crops.start(first_step)

    def crop(self, position: int, item: PlanItem) -> Crop:
        try:
            return self._crops.crop(position, item)
        except UserError as error:
            self._note(item.sample, error)
        for step in range(1, len(self)):
            other = replace(item, sample=(item.sample + step) % len(self))
            if other.sample in self._bad:
                continue
            try:
                return self._spare.crop(position, other)
            except UserError as error:
                self._note(other.sample, error)
        raise UserError(f"bad rows: got all {len(self)} samples, want at least one to train on")

    def close(self) -> None:
        self._crops.close()

    def _note(self, sample: int, error: UserError) -> None:
        with self._lock:
            if sample in self._bad:
                return
            self._bad.add(sample)
            bad_rows = len(self._bad)
        if bad_rows > self._max_bad_rows:
            raise UserError(
                f"{error} (bad rows: got {bad_rows}, want at most {self._max_bad_rows}: "
                "ingest.max_bad_rows)"
            ) from error
        _log.warning("skipped: %s", error)
