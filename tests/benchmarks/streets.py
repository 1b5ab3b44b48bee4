"""`make bench-streets`: how many street scenes a single core renders per second."""

import time

import numpy as np

from tests.record import BENCHES, goal, write_record
from uda.data.streets import DOMAINS, render

SCENES, REPEATS = 40, 5
HEIGHT, WIDTH = 128, 256


def main() -> None:
    rates = {name: [] for name in DOMAINS}
    for name in rates:
        render(DOMAINS[name], 0, 0, HEIGHT, WIDTH)  # what is computed once and kept
    for repeat in range(REPEATS):  # the looks take turns, so that a busy moment meets both
        for name, found in rates.items():
            started = time.process_time()
            for index in range(SCENES):
                render(DOMAINS[name], repeat, index, HEIGHT, WIDTH)
            found.append(SCENES / (time.process_time() - started))
    medians = {name: round(float(np.median(found)), 2) for name, found in rates.items()}
    write_record(
        BENCHES / "streets.json",
        "make bench-streets",
        {"scenes_per_cpu_second": medians, "size": f"{WIDTH}x{HEIGHT}", "scenes": SCENES * REPEATS},
        {f"{name}, scenes/s per core": goal(rate, 8.0) for name, rate in medians.items()},
    )
    for name, rate in medians.items():
        print(f"{name:8} {rate:6.1f} scenes per second of one core")


if __name__ == "__main__":
    main()
