"""Bad rows: a crop that cannot be made is replaced, predictably and not without end."""

import numpy as np
import pytest

from uda.data.crops import CropSource, RowCrops, SkipBadRows
from uda.data.sampling import PlanItem
from uda.types import UserError


class NumberedCrops:
    """The crop of sample n is a picture of n; broken samples raise."""

    def __init__(self, count, broken=()):
        self.count, self.broken, self.started = count, set(broken), None

    def __len__(self):
        return self.count

    def start(self, first_step):
        self.started = first_step

    def crop(self, position, item):
        if item.sample in self.broken:
            raise UserError(f"shard-00000.parquet row {item.sample}: does not read")
        return np.full((2, 2, 3), item.sample, np.uint8), None

    def close(self):
        self.started = None


def skipping(count, broken, most, spare_broken=None):
    spare = NumberedCrops(count, broken if spare_broken is None else spare_broken)
    return SkipBadRows(NumberedCrops(count, broken), spare, most)


def sample_of(crops, sample):
    image, _ = crops.crop(7, PlanItem(sample, 1))
    return int(image[0, 0, 0])


def test_sources_of_crops_have_the_protocol():
    assert isinstance(skipping(3, [], 0), CropSource)
    assert isinstance(RowCrops.__new__(RowCrops), CropSource)


def test_good_samples_are_themselves():
    crops = skipping(5, [], 0)
    assert [sample_of(crops, n) for n in range(5)] == [0, 1, 2, 3, 4]
    assert crops.bad_rows == 0


def test_the_next_good_sample_stands_in():
    crops = skipping(5, [1, 2, 4], 3)
    assert [sample_of(crops, n) for n in range(5)] == [0, 3, 3, 3, 0]
    assert crops.bad_rows == 3


def test_a_bad_sample_counts_once():
    crops = skipping(5, [1], 1)
    assert [sample_of(crops, 1) for _ in range(10)] == [2] * 10
    assert crops.bad_rows == 1


def test_too_many_are_an_error_that_names_the_last():
    crops = skipping(5, [1, 3], 1)
    sample_of(crops, 1)
    message = r"row 3: does not read \(bad rows: got 2, want at most 1: ingest.max_bad_rows\)"
    with pytest.raises(UserError, match=message):
        sample_of(crops, 3)


def test_nothing_good_is_an_error():
    with pytest.raises(UserError, match="got all 3 samples"):
        sample_of(skipping(3, [0, 1, 2], 9), 0)


def test_only_the_stream_is_broken():
    """A sample may fail on its way though its neighbour, read directly, is fine."""
    assert sample_of(skipping(3, [0, 1], 9, spare_broken=[]), 0) == 1


def test_start_and_close_reach_the_source():
    crops = skipping(3, [], 0)
    crops.start(4)
    assert crops._crops.started == 4
    crops.close()
    assert crops._crops.started is None
