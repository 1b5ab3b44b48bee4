"""`make study-jpeg ARGS="--camvid FOLDER"`: does it cost accuracy to train on JPEGs?

The same supervised training, from shards with images as JPEG of quality 95 and from lossless ones,
on rendered streets and on CamVid, three seeds each. All else is equal; test images are lossless. A
run that is done is not repeated.
"""

import argparse
import statistics
from pathlib import Path

from tests.record import STUDIES, goal, write_record
from tests.studies._solo import train_and_score
from uda.config import Config
from uda.data.prepare import prepare
from uda.presets import preset
from uda.tree import override

DATA = ("streets", "camvid")
DATA = ("streets", "camvid")
SEEDS = (0, 1, 2)
STEPS = 300
FOLDER = STUDIES / "jpeg"
TOLERANCE = -0.5  # mIoU points that a mean over three seeds may lose before it counts as a loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camvid", required=True, help="folder with train, trainannot, test, ...")
    parser.add_argument("--only", choices=DATA, help="just these runs, without the record")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else DATA
    results = {name: [_pair(name, seed, arguments.camvid) for seed in SEEDS] for name in names}
    if arguments.only:
        return
    figures = {name: _figures(pairs) for name, pairs in results.items()}
    write_record(
        STUDIES / "jpeg.json",
        'make study-jpeg ARGS="--camvid CAMVID"',
        {"steps": STEPS, "results": figures},
        {
            f"{name}: mean difference JPEG - lossless, mIoU points": goal(
                values["mean_difference"], TOLERANCE
            )
            for name, values in figures.items()
        },
    )


def _pair(name: str, seed: int, camvid: str) -> dict[str, float]:
    """mIoU in per cent by codec."""
    scores = {}
    for codec in ("exact", "jpeg"):
        shards = _shards(name, codec, camvid)
        result = train_and_score(
            _config(name, seed),
            FOLDER / f"{name}-{codec}-{seed}",
            source=shards["train"],
            target=shards["train"],  # which training on the source alone does not look at
            test=shards["test"],
            scales=(0.5,) if name == "camvid" else (1.0,),  # of CamVid's test images, at full size
        )
        scores[codec] = round(100 * result["miou"], 2)
    return scores


def _config(name: str, seed: int) -> Config:
    setting = {"streets": "demo", "camvid": "street_to_camvid"}[name]
    return override(preset(f"{setting}_source_only", STEPS), {"seed": seed})


def _shards(name: str, codec: str, camvid: str) -> dict[str, Path]:
    train, test = FOLDER / "shards" / f"{name}-train-{codec}", FOLDER / "shards" / f"{name}-test"
    if name == "streets":
        prepare("streets", "game", train, "train", count=400, codec=codec)
        prepare("streets", "game", test, "val", count=100, codec="exact")
    else:
        prepare("camvid", camvid, train, "train", size=(240, 180), codec=codec)
        prepare("camvid", camvid, test, "test", codec="exact")
    return {"train": train, "test": test}


def _figures(pairs: list[dict[str, float]]) -> dict:
    differences = [pair["jpeg"] - pair["exact"] for pair in pairs]
    return {
        "seeds": pairs,
        "mean_difference": round(statistics.mean(differences), 2),
        "deviation": round(statistics.stdev(differences), 2),
    }


if __name__ == "__main__":
    main()
