"""Runs one pipeline in a process of its own and reads what it costs."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tests.benchmarks.ingest_peers import OURS_PYTHON, PEERS_PYTHON, PIPELINES
from tests.benchmarks.ingest_peers.child import MARK
from tests.benchmarks.ingest_peers.meter import TreeMeter

_LIMIT_S = 300
# One thread per worker, as on a training node; and nothing is asked of the network.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "LITDATA_DISABLE_VERSION_CHECK": "1",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all measurements of a bench have in common."""

    scenes: int = 64
    samples: int = 512
    threads: int = 2  # or worker processes
    paced_s: float = 4.0
    pace: float = 20.0  # samples per second of the slow trainer


def measure(name: str, data: Path, settings: Settings, log: Path) -> dict[str, float]:
    """CPU ms per sample, samples/s, peak PSS in MB and seconds to the first batch.

    `paced_cores` is the CPU time per second beside a trainer that is slower than its data.
    SystemExit, with the end of `log`, if the pipeline fails.
    """
    python = PEERS_PYTHON if PIPELINES[name].in_peers else OURS_PYTHON
    options = asdict(settings)
    del options["scenes"]
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [python, "-m", f"{__package__}.child", name, f"--data={data}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,
        ) as process,
        TreeMeter(process.pid) as meter,
    ):
        timer = threading.Timer(_LIMIT_S, process.kill)
        timer.start()
        try:
            readings, result = _follow(process, meter)
            process.wait()
        finally:
            timer.cancel()
            _end(meter, process)
    if result is None:  # how it ends afterwards is no part of the measurement
        lines = log.read_text().strip().splitlines()[-15:]
        raise SystemExit("\n".join([*lines, f"{name}: failed with {process.returncode}: {log}"]))
    return _figures(readings, result, meter.peak_pss_mb)


def _follow(
    process: subprocess.Popen, meter: TreeMeter
) -> tuple[dict[str, float], dict[str, Any] | None]:
    """The tree's CPU seconds at each mark, and the result; None if there was none."""
    assert process.stdin
    assert process.stdout
    readings: dict[str, float] = {}
    for words in _marks(process.stdout):
        result = None
        if words.startswith("result "):
            result = json.loads(words.removeprefix("result "))
        else:
            readings[words] = meter.cpu_seconds()
        process.stdin.write("\n")
        process.stdin.flush()
        if result is not None:
            return readings, result
    return readings, None


def _marks(stream: IO[str]) -> Iterator[str]:
    for line in stream:  # libraries say things, too
        _, mark, words = line.rstrip("\n").partition(MARK)
        if mark:
            yield words


def _end(meter: TreeMeter, process: subprocess.Popen) -> None:
    """Ends what the pipeline has left behind, itself included."""
    for number in meter.processes():
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def _figures(
    readings: dict[str, float], result: dict[str, Any], peak_pss_mb: float
) -> dict[str, float]:
    used = readings["end"] - readings["begin"]
    figures = {
        "cpu_ms_per_sample": 1e3 * used / result["samples"],
        "samples_per_s": result["samples"] / result["seconds"],
        "peak_pss_mb": peak_pss_mb,
        "open_s": result["open_s"],
        "first_batch_s": result["first_batch_s"],
    }
    if "paced_s" in result:
        paced = readings["paced end"] - readings["paced begin"]
        figures["paced_cores"] = paced / result["paced_s"]
    return {key: round(value, 3) for key, value in figures.items()}
