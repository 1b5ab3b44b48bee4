"""The shards that studies of adaptation train and score on, made if they are not there."""

from pathlib import Path

from tests.record import STUDIES
from uda.data.prepare import prepare
from uda.data.shards import read_manifest

FOLDER = STUDIES / "adaptation" / "shards"
SIZE = (256, 128)
CAMVID_SIZE = (240, 180)  # half of CamVid's 480x360
NUM_TRAIN, NUM_TEST = 1200, 200

# Looks of the streets, source -> target. At `dusk` strengths were chosen: its labels may be looked
# at, those of what is reported may not.
LOOKS = {"streets": ("game", "camera"), "dusk": ("game", "dusk")}
SETTINGS = (*LOOKS, "camvid")


def shards(setting: str, camvid: str = "") -> dict[str, Path]:
    """Folders of `source`, `target` and `test` of a setting."""
    if setting == "camvid":
        return {"source": _streets("game", "train", CAMVID_SIZE), **_camvid(camvid)}
    source, target = LOOKS[setting]
    return {
        "source": _streets(source, "train"),
        "target": _streets(target, "train"),
        "test": _streets(target, "val"),
    }


def source_validation() -> Path:
    """Labelled streets of the source's look that no training has seen."""
    return _prepared(FOLDER / "source_validation", LOOKS["streets"][0], "val", SIZE)


def _streets(look: str, split: str, size: tuple[int, int] = SIZE) -> Path:
    folder = FOLDER / (f"{look}_{split}" if size == SIZE else f"{look}_{split}_{size[0]}x{size[1]}")
    return _prepared(folder, look, split, size)


def _prepared(folder: Path, look: str, split: str, size: tuple[int, int]) -> Path:
    is_test = split == "val"
    prepare(
        "streets",
        look,
        folder,
        split,
        count=NUM_TEST if is_test else NUM_TRAIN,
        size=size,
        codec="exact" if is_test else "jpeg",
    )
    return folder


def digests(data: dict[str, Path]) -> dict[str, str]:
    """What a record says of the shards that its run has read."""
    return {name: read_manifest(folder).digest[:12] for name, folder in data.items()}


def can_make(setting: str, camvid: str = "") -> bool:
    """Whether the shards are there, or what they are made of."""
    return setting != "camvid" or bool(camvid) or (_TARGET.exists() and _TEST.exists())


_TARGET, _TEST = FOLDER / "camvid_train", FOLDER / "camvid_test"


def _camvid(camvid: str) -> dict[str, Path]:
    if camvid:
        prepare("camvid", camvid, _TARGET, "train", size=CAMVID_SIZE)
        prepare("camvid", camvid, _TEST, "test", codec="exact")
    return {"target": _TARGET, "test": _TEST}
