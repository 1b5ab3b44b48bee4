"""`uda demo`: the whole story on a laptop, from rendered streets to a report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.evaluate import evaluate
from cluster.prepare import prepare
from cluster.runtime import check_resources, required_cpus, start_ray
from cluster.train import Scaling, train
from uda.checkpoint import find_checkpoint, load_model
from uda.config import Config
from uda.data.codec import decode_image, decode_label
from uda.data.rows import ShardRows
from uda.inference import PLAIN, labels_of, look_at
from uda.pictures import colorize, contact_sheet
from uda.presets import preset
from uda.report import comparison_table, write_json
from uda.run import open_run
from uda.tree import override

_NUM_WORKERS = 2
_TRAIN_IMAGES, _VAL_IMAGES = 400, 100
_SCENES_SHOWN = 5
_RUNS = ("source_only", "adapted")
_ADAPTATION_STEPS = 400  # fewer than from ImageNet weights: the network knows streets already


def demo(out: Path, *, seed: int = 0) -> dict[str, Any]:
    """Renders two looks of streets, trains source-only and adapted, scores both on unseen scenes.

    `game` has labels, `camera` has none as far as training knows: its labels are read by the
    evaluation alone. Writes results.json, report.png and TensorBoard logs to `out`; called again,
    it continues where it was. Returns what it wrote to results.json.
    """
    scaling = Scaling(num_workers=_NUM_WORKERS)
    started = time.perf_counter()
    with start_ray(needed_cpus=required_cpus(_NUM_WORKERS, scaling.cpus_per_worker)):
        check_resources(_NUM_WORKERS, scaling.cpus_per_worker)
        shards = out / "shards"
        with _chapter(1, "render two looks of streets: game with labels, camera without"):
            for look, split, count, codec in (
                ("game", "train", _TRAIN_IMAGES, "jpeg"),
                ("camera", "train", _TRAIN_IMAGES, "jpeg"),
                ("camera", "val", _VAL_IMAGES, "exact"),
            ):
                folder = shards / f"{look}_{split}"
                prepare("streets", look, folder, split, count=count, seed=seed, codec=codec)
        results: dict[str, Any] = {}
        for number, title in enumerate(_RUNS, 2):
            with _chapter(number, f"train and score: {_readable(title)}"):
                run = open_run(
                    _config(title, out, seed),
                    out / title,
                    shards / "game_train",
                    shards / "camera_train",
                    num_workers=_NUM_WORKERS,
                    resume=True,
                )
                if (step := train(run, scaling)) < run.config.steps:  # half a run has no score
                    raise KeyboardInterrupt(f"stopped at step {step}; the same command continues")
                results[title] = evaluate(run.folder, shards / "camera_val").json()
    write_json(out / "results.json", results)
    _draw(out, shards / "camera_val")
    print(f"\n{comparison_table({_readable(t): result for t, result in results.items()})}\n")
    _say_where(out, time.perf_counter() - started)
    return results


def _config(title: str, out: Path, seed: int) -> Config:
    """Source-only starts from ImageNet weights, and adaptation from the source-only network."""
    if title == "source_only":
        return override(preset("demo_source_only"), {"seed": seed})
    start = find_checkpoint(out.absolute() / "source_only")
    changes = {
        "seed": seed,
        "model.pretrained": str(start),
        "optim.lr": 1e-3,  # half: what was learned is to be moved, not learned again
    }
    return override(preset("demo_full", steps=_ADAPTATION_STEPS), changes)


def _draw(out: Path, val: Path) -> None:
    """report.png: some scenes at even distances, not the best ones."""
    rows = ShardRows(val, labels=True)
    models = [load_model(out / title) for title in _RUNS]
    pictures = []
    for index in range(0, len(rows), max(1, len(rows) // _SCENES_SHOWN))[:_SCENES_SHOWN]:
        row = rows.row(index)
        assert row.label is not None
        image = decode_image(row.image)
        truth = decode_label(row.label, row.height, row.width)
        predicted = [labels_of(look_at(m, [image], PLAIN))[0].numpy() for m in models]
        pictures.append([image, *(colorize(label) for label in (truth, *predicted))])
    titles = ["image", "truth", *(_readable(title) for title in _RUNS)]
    contact_sheet(pictures, titles).save(out / "report.png")


def _say_where(out: Path, seconds: float) -> None:
    print(f"pictures     {out / 'report.png'}")
    print(f"scores       {out / 'results.json'}")
    print(f"training     tensorboard --logdir {out}")
    print(f"took         {seconds / 60:.1f} minutes")


@contextmanager
def _chapter(number: int, title: str) -> Iterator[None]:
    print(f"\n[{number}/{1 + len(_RUNS)}] {title}", flush=True)
    yield


def _readable(title: str) -> str:
    return title.replace("_", "-")
