"""One measurement of one pipeline, in a process of its own that the driver watches.

Says what it does in lines that begin with MARK on stdout; at each it waits for the driver, which
reads the CPU time of the process tree meanwhile, to let it go on with a line on stdin.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import torch

from tests.benchmarks.ingest_peers import PIPELINES, Take
from tests.benchmarks.ingest_peers.transform import BATCH

MARK = "@ingest "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", choices=PIPELINES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--paced-s", type=float, required=True, help="seconds")
    parser.add_argument("--pace", type=float, required=True, help="samples per second")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pipeline = PIPELINES[arguments.pipeline]
    batches = round(pipeline.part * arguments.samples / BATCH)
    module, _, function = pipeline.opened_by.partition(":")
    opened_by = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    began = time.perf_counter()
    with opened_by(arguments.data, arguments.threads) as take:
        opened = time.perf_counter()
        take(1)
        first = time.perf_counter()
        while time.perf_counter() - first < pipeline.warm_up_s:
            take(1)
        _say("begin")
        start = time.perf_counter()
        take(batches)
        seconds = time.perf_counter() - start
        _say("end")
        paced = {"paced_s": _paced(take, arguments)} if pipeline.paced else {}
        result = {
            "seconds": seconds,
            "samples": batches * BATCH,
            "open_s": opened - began,
            "first_batch_s": first - opened,
            **paced,
        }
        _say("result " + json.dumps(result))


def _paced(take: Take, arguments: argparse.Namespace) -> float:
    """A trainer that is slower than its data; the seconds that it took."""
    _say("paced begin")
    start = time.perf_counter()
    for batch in range(1, round(arguments.paced_s * arguments.pace / BATCH) + 1):
        take(1)
        time.sleep(max(0.0, start + batch * BATCH / arguments.pace - time.perf_counter()))
    seconds = time.perf_counter() - start
    _say("paced end")
    return seconds


def _say(words: str) -> None:
    print(f"{MARK}{words}", flush=True)
    input()


if __name__ == "__main__":
    main()
