"""The data sets that `uda prepare` knows, by name."""

from uda.data.camvid import CamVid
from uda.data.raw import RawDataset
from uda.data.streets_dataset import Streets

DATASETS: dict[str, RawDataset] = {
    "camvid": CamVid(),
    "streets": Streets(),
}
