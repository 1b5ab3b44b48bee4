"""Times the official program in its own environment: run by its Python, which has nothing of ours.

Reads {"pairs": [[prediction, label], ...], "with_instances": [...]} from stdin and writes, as JSON,
its counts, whether its Cython extension was there, and CPU milliseconds of each pair: of
`evaluatePair` and of decoding alone, as the program decodes, without and with instances.
"""

import json
import sys
import time

import numpy as np
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813, a module
from PIL import Image


def main():
    asked = json.load(sys.stdin)
    plain, with_instances = asked["pairs"], asked["with_instances"]
    _evaluate(*plain[0], instances=False)  # warm
    matrix = official.generateMatrix(official.args)
    ms = {"whole": [], "decoding": [], "whole with instances": []}
    for prediction, label in plain:
        ms["decoding"].append(_ms(_decode, prediction, label))
        ms["whole"].append(_ms(_evaluate, prediction, label, instances=False, matrix=matrix))
    for prediction, label in with_instances:
        ms["whole with instances"].append(_ms(_evaluate, prediction, label, instances=True))
    print(json.dumps({"compiled": official.CSUPPORT, "matrix": matrix.tolist(), "ms": ms}))


def _evaluate(prediction, label, *, instances, matrix=None):
    official.args.evalInstLevelScore = instances
    official.args.evalPixelAccuracy = False
    statistics = official.generateInstanceStats(official.args)
    if matrix is None:
        matrix = official.generateMatrix(official.args)
    official.evaluatePair(prediction, label, matrix, statistics, {}, official.args)


def _decode(*files):
    for file in files:
        np.array(Image.open(file))


def _ms(work, *arguments, **options):
    started = time.process_time()
    work(*arguments, **options)
    return 1000 * (time.process_time() - started)


if __name__ == "__main__":
    main()
