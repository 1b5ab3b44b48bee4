"""`make study-camvid ARGS="--camvid FOLDER"`: rendered streets -> CamVid's real photographs.

Trains source-only and adapted and scores both on the test photographs, whose drive is in neither.
The target is the training split without its labels. Runs without Ray, in one process; a run that
is done is not repeated. The last step is taken, whatever its score.
"""

import argparse
from pathlib import Path

from tests.record import STUDIES, goal, write_record
from tests.studies._solo import train_and_score
from uda.data.prepare import prepare
from uda.presets import preset
from uda.tree import override, parse_assignments

TRAINING_SIZE = (240, 180)  # half of CamVid's 480x360
METHODS = {"source_only": "street_to_camvid_source_only", "adapted": "street_to_camvid"}
FOLDER = STUDIES / "camvid"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camvid", required=True, help="folder with train, trainannot, test, ...")
    parser.add_argument("--only", choices=METHODS, help="just this run, without the record")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    arguments = parser.parse_args()
    shards = _shards(arguments.camvid)
    names = [arguments.only] if arguments.only else list(METHODS)
    results = {name: _run(name, shards, arguments.set) for name in names}
    if not arguments.only:
        _record(results)


def _shards(camvid: str) -> dict[str, Path]:
    folders = {name: FOLDER / "shards" / name for name in ("game", "target", "test")}
    prepare("streets", "game", folders["game"], "train", count=1200, size=TRAINING_SIZE)
    prepare("camvid", camvid, folders["target"], "train", size=TRAINING_SIZE)
    prepare("camvid", camvid, folders["test"], "test", codec="exact")
    return folders


def _run(name: str, shards: dict[str, Path], assignments: list[str]) -> dict:
    """The evaluation JSON of one method, trained first if it is not."""
    return train_and_score(
        override(preset(METHODS[name]), parse_assignments(assignments)),
        FOLDER / name,
        source=shards["game"],
        target=shards["target"],
        test=shards["test"],
        # The network has seen half-size images: it looks at half size and answers at full size.
        scales=(0.5,),
    )


def _record(results: dict[str, dict]) -> None:
    miou = {name: 100 * result["miou"] for name, result in results.items()}
    gain = miou["adapted"] - miou["source_only"]
    write_record(
        STUDIES / "camvid.json",
        'make study-camvid ARGS="--camvid CAMVID"',
        {
            "runs": {
                name: {
                    "miou": round(miou[name], 2),
                    "iou": result["iou"],
                    "minutes": result["minutes"],
                    "steps": result["steps"],
                }
                for name, result in results.items()
            },
            "gain_points": round(gain, 2),
        },
        {"gain over source-only, mIoU points": goal(gain, 0.0)},
    )


if __name__ == "__main__":
    main()
