import subprocess
import sys
import time

import pytest

from tests.benchmarks.ingest_peers.meter import TreeMeter

pytestmark = pytest.mark.slow

BURN = """
import os, signal, time
def burn(seconds):
    while time.process_time() < seconds: pass
def child(seconds, then=lambda: None):
    if not os.fork():
        burn(seconds); then(); os._exit(0)
def rest(): time.sleep(60)
"""


def measured(program: str) -> tuple[float, float]:
    """CPU seconds and MB of a program that prints a line when it is done."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", BURN + program],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            start_new_session=True,
        ) as process,
        TreeMeter(process.pid) as meter,
    ):
        process.stdout.readline()
        time.sleep(0.7)
        seconds, megabytes = meter.cpu_seconds(), meter.peak_pss_mb
        for number in meter.processes():
            subprocess.run(["kill", "-9", str(number)], check=False)
    return seconds, megabytes


PROGRAMS = {
    "alone": "burn(1)",
    "running child": "child(0.6, rest)\nburn(0.4)\ntime.sleep(0.6)",
    "child waited for": "child(0.6)\nos.wait()\nburn(0.4)",
    "nobody waits": (
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nchild(0.6)\nburn(0.4)\ntime.sleep(1)"
    ),
    "orphan in a session of its own": (
        "if not os.fork():\n"
        "    os.setsid(); child(0.6, rest); time.sleep(0.5); os._exit(0)\n"
        "os.wait()\nburn(0.4)\ntime.sleep(1)"
    ),
    "thread": (
        "import threading\nt = threading.Thread(target=burn, args=(1,)); t.start(); t.join()"
    ),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_cpu_of_the_whole_tree(program):
    """Each burns one second; on a busy machine the last look at one that ends may come late."""
    seconds, _ = measured(program + "\nprint(flush=True)\ninput()")
    assert 0.7 < seconds < 1.1


def test_shared_memory_counts_once():
    program = (
        "import mmap\nm = mmap.mmap(-1, 200_000_000)\nm.write(b'x' * 200_000_000)\n"
        "for _ in range(3):\n    if not os.fork():\n        sum(m[::4096]); rest()\n"
        "print(flush=True)\ninput()"
    )
    _, megabytes = measured(program)
    assert 200 < megabytes < 500  # 800, if each of the four counted all of it
