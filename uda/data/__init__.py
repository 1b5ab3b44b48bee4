"""The data sets that `uda prepare` knows, by name."""

from uda.data.camvid import CamVid
from uda.data.cityscapes import Cityscapes
from uda.data.folder import Folder
from uda.data.gta5 import GTA5
from uda.data.raw import RawDataset
from uda.data.streets_dataset import Streets
from uda.data.synthia import Synthia

DATASETS: dict[str, RawDataset] = {
    "camvid": CamVid(),
    "cityscapes": Cityscapes(),
    "folder": Folder(),
    "gta5": GTA5(),
    "streets": Streets(),
    "synthia": Synthia(),
}
