"""`python -m tests.benchmarks.ingest_peers.data FOLDER COUNT`: the same scenes in all formats.

Street scenes of Cityscapes' size from our renderer. They are about as hard to compress as its
photographs (2.2 to 2.8 MB as PNG, 0.4 to 0.6 MB as JPEG), without any noise added. All formats but
PNG hold the same bytes: our JPEG, and labels as zstd. What exists is kept; formats are written
anew when the code of `uda.data` has changed.
"""

import hashlib
import json
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import uda.data
from tests.benchmarks.ingest_peers.transform import HEIGHT, WIDTH, encoded_files
from uda.classes import CLASS_NAMES
from uda.data.codec import IMAGE_CODECS, encode_label
from uda.data.label_mapping import MAPPING_FILE
from uda.data.prepare import prepare
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.data.streets import DOMAINS, render

_PEERS = ("torch", "webdataset", "mosaicml-streaming", "litdata", "spdl", "grain", "ray")
_LOOK, _SEED = "game", 0


def main() -> None:
    """The last line it prints is for the record: how large the data are, and who reads them."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    make(folder, count)
    print(
        json.dumps({"versions": {name: version(name) for name in _PEERS}, "mean_kb": _kb(folder)})
    )


def make(folder: Path, count: int) -> None:
    """All formats of `count` scenes, in folders of `folder`."""
    _draw_scenes(folder / "png", count)
    stamp = f"{count} scenes, code {_digest()}"
    _once(folder / "jpeg", stamp, partial(_write_jpeg, folder / "png"))
    samples = [(i.read_bytes(), k.read_bytes()) for i, k in encoded_files(folder / "jpeg")]
    for name, write_format in _peers().items():
        _once(folder / name, stamp, partial(write_format, samples))
    _once(folder / "ours", stamp, partial(_write_ours, folder / "png"))
    _check_ours(folder / "ours", samples)


def _kb(folder: Path) -> dict[str, float]:
    """Mean kB of an image or label as PNG and as our JPEG or zstd."""
    return {
        f"{name} {kind}": round(np.mean([f.stat().st_size for f in files.iterdir()]) / 1e3, 1)
        for name in ("png", "jpeg")
        for kind in ("images", "labels")
        if (files := folder / name / kind).is_dir()
    }


def _peers() -> dict:
    from tests.benchmarks.ingest_peers import lightning, mosaic, tar_shards

    return {"webdataset": tar_shards.write, "mosaic": mosaic.write, "litdata": lightning.write}


def _draw_scenes(folder: Path, count: int) -> None:
    """As a data set of the kind `folder`."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    ids = {str(train_id): name for train_id, name in enumerate(CLASS_NAMES)}
    (folder / MAPPING_FILE).write_text(json.dumps({"ids": {**ids, "255": "ignore"}}))
    for kind in ("images", "labels"):  # of a larger run
        for file in sorted((folder / kind).iterdir())[count:]:
            file.unlink()
    missing = [i for i in range(count) if not _files(folder, i)[1].exists()]
    with ProcessPoolExecutor() as executor:
        scenes = executor.map(partial(_draw_scene, folder), missing)
        list(tqdm(scenes, "drawing scenes", len(missing), disable=not missing))


def _draw_scene(folder: Path, index: int) -> None:
    pair = render(DOMAINS[_LOOK], _SEED, index, HEIGHT, WIDTH)
    for array, file in zip(pair, _files(folder, index), strict=True):  # the label comes last
        partial_file = file.with_suffix(".partial")
        Image.fromarray(array).save(partial_file, "PNG")
        partial_file.replace(file)


def _files(folder: Path, index: int) -> tuple[Path, Path]:
    return folder / "images" / f"{index:06d}.png", folder / "labels" / f"{index:06d}.png"


def _once(folder: Path, stamp: str, write_to) -> None:
    """Runs `write_to(folder)` unless what is there has this stamp."""
    stamp_file = folder.with_suffix(".stamp")
    if stamp_file.exists() and stamp_file.read_text() == stamp:
        return
    stamp_file.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    write_to(folder)
    stamp_file.write_text(stamp)


def _write_jpeg(scenes: Path, folder: Path) -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for image_file, label_file in encoded_files(scenes):
        image, label = (np.asarray(Image.open(file)) for file in (image_file, label_file))
        encoded = IMAGE_CODECS["jpeg"](image)
        (folder / "images" / f"{image_file.stem}.jpg").write_bytes(encoded)
        (folder / "labels" / f"{label_file.stem}.zst").write_bytes(encode_label(label))


def _write_ours(scenes: Path, folder: Path) -> None:
    prepare("folder", str(scenes), folder, "train", progress=False)


def _check_ours(folder: Path, samples: list[tuple[bytes, bytes]]) -> None:
    """Our shards hold the same bytes as everybody else's."""
    rows = ShardRows(open_shards(folder), labels=True)
    assert [(rows.row(i).image, rows.row(i).label) for i in range(len(rows))] == samples


def _digest() -> str:
    """Of all code that encodes and writes."""
    files = sorted(Path(uda.data.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


if __name__ == "__main__":
    main()
