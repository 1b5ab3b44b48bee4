"""Counting: our `IdConfusion.of` and the official program, and whole evaluations beside decoding.

Everything is CPU time of one process per pair. All take turns in rounds; of each pair the quickest
round counts, and of these the mean over the pairs.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests.benchmarks.eval_parts.maps import Pairs
from uda.data.examples import open_examples
from uda.data.raw import read_ids
from uda.evaluate import evaluate_predictions, total
from uda.label_maps import prediction_files
from uda.official import IdConfusion
from uda.tally import Tally

OFFICIAL_PYTHON = Path(".venv-official/bin/python")
_PROGRAM = Path(__file__).with_name("official_program.py")

Milliseconds = list[float]  # one per pair


def measure_counting(pairs: Pairs, repeats: int, compiled: Path | None) -> dict[str, Any]:
    """CPU ms per pair by what was done, and ratios; AssertionError where counts differ.

    `compiled` is a checkout of the official program with its Cython extension, or None.
    """
    rounds: dict[str, list[Milliseconds]] = {}
    for number in range(repeats):
        for name, ms in _round(pairs, compiled).items():
            rounds.setdefault(name, []).append(ms)
        print(f"counting: round {number + 1} of {repeats}", flush=True)
    ms = {name: quickest(found) for name, found in rounds.items()}
    for program in ("official", "official compiled"):
        if (whole := f"{program}, whole") in ms:
            ms[f"{program}, counting"] = ms[whole] - ms[f"{program}, decoding"]
    return {"cpu_ms_per_pair": {name: round(v, 3) for name, v in ms.items()}, **_ratios(ms)}


def quickest(rounds: list[Milliseconds]) -> float:
    """The mean over the pairs of each one's quickest round."""
    return float(np.min(rounds, axis=0).mean())


def _ratios(ms: dict[str, float]) -> dict[str, float]:
    fastest = min(ms["decoding, PIL"], ms["decoding, OpenCV"])
    ratios = {
        "official_over_ours": ms["official, counting"] / ms["ours, counting"],
        "whole_over_decoding": ms["ours, whole"] / fastest,
        "official_whole_over_ours": ms["official, whole"] / ms["ours, whole"],
        "official_instances_over_ours": (
            ms["official, whole with instances"] / ms["ours, whole with instances"]
        ),
    }
    if "official compiled, counting" in ms:
        ratios["compiled_over_ours"] = ms["official compiled, counting"] / ms["ours, counting"]
    return {name: round(ratio, 3) for name, ratio in ratios.items()}


def _round(pairs: Pairs, compiled: Path | None) -> dict[str, Milliseconds]:
    files = pairs.files(pairs.plain)
    official = _official(pairs)
    found = {f"official, {what}": ms for what, ms in official["ms"].items()}
    if compiled:
        built = _official(pairs, compiled)
        assert built["compiled"], f"{compiled}: its Cython extension does not load"
        assert built["matrix"] == official["matrix"], "the official programs disagree"
        found |= {f"official compiled, {what}": ms for what, ms in built["ms"].items()}
    maps = ([read_ids(file) for file in pair] for pair in files)
    found["ours, counting"] = [_ms(IdConfusion.of, *pair) for pair in maps]
    found["decoding, PIL"] = [_ms(_decode_pil, pair) for pair in files]
    found["decoding, OpenCV"] = [_ms(_decode_opencv, pair) for pair in files]
    tally, found["ours, whole"] = _whole(pairs, pairs.plain)
    assert tally.ids.matrix.tolist() == official["matrix"], "ours and the official counts differ"
    _, found["ours, whole with instances"] = _whole(pairs, pairs.with_instances)
    return found


def _whole(pairs: Pairs, dataset: Path) -> tuple[Tally, Milliseconds]:
    """What `uda evaluate --predictions` does in an actor, pair by pair."""
    examples = open_examples(dataset, "cityscapes", "val", images=False)
    files = prediction_files(pairs.predictions, examples.keys)
    scored = evaluate_predictions(files, examples, range(len(examples)))
    results, ms = [], []
    for _ in range(len(examples)):
        ms.append(_ms(lambda: results.append(next(scored))))
    return total(results), ms


def _official(pairs: Pairs, checkout: Path | None = None) -> dict[str, Any]:
    asked = {
        "pairs": _names(pairs.files(pairs.plain)),
        "with_instances": _names(pairs.files(pairs.with_instances)),
    }
    environment = {**os.environ, "PYTHONPATH": str(checkout.absolute()) if checkout else ""}
    command = [str(OFFICIAL_PYTHON), str(_PROGRAM)]
    answer = subprocess.run(
        command,
        input=json.dumps(asked),
        env=environment,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    return json.loads(answer.stdout)


def _names(files: Iterable[tuple[Path, Path]]) -> list[list[str]]:
    return [[str(file) for file in pair] for pair in files]


def _decode_pil(files: tuple[Path, Path]) -> None:
    for file in files:
        np.array(Image.open(file))


def _decode_opencv(files: tuple[Path, Path]) -> None:
    for file in files:
        cv2.imread(str(file), cv2.IMREAD_UNCHANGED)


def _ms(work: Callable[..., Any], *arguments: Any) -> float:
    started = time.process_time()
    work(*arguments)
    return 1000 * (time.process_time() - started)
