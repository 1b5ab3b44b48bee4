"""Set-up shared by all tests: the environment of the run, and one local Ray for those that need it.

The variables must be set before Ray and PyTorch are imported, so they stand above everything else.
Those of Ray trade what a long run wants (health reports, usage statistics, patience at start-up)
for a `fit` that takes about ten seconds on two cores instead of twenty.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

os.environ.update(
    {
        "OMP_NUM_THREADS": "1",  # one order of summation: "bit-equal" holds on any machine
        "RAY_AUTH_MODE": "disabled",  # otherwise Ray writes a token into the user's home
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's announced default; silences its warning
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
        "RAY_TRAIN_METRICS_ENABLED": "0",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
        "RAY_DATA_USE_DATASOURCE_V2": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        # As in our own local Ray; see there.
        "RAY_preload_python_modules": "pandas",
        "RAY_raylet_start_wait_time_s": "120",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }
)

# A script that starts the tests in the background makes them deaf to Ctrl-C, which some are about;
# Ray's processes, which cancel by it, would be deaf as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings

# No deadline: a busy machine is not a bug. Derandomised: a red run is red again when repeated.
settings.register_profile("uda", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("uda")


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One local Ray of six logical CPUs for the whole test run; its folder is removed at the end.

    The folder's name is short because Ray puts Unix sockets below it (at most 107 characters).
    """
    import ray  # here, so that tests without Ray do not pay for its import

    folder = tempfile.mkdtemp(prefix="r")
    ray.init(
        address="local",
        num_cpus=6,
        include_dashboard=False,
        object_store_memory=300 * 2**20,
        log_to_driver=False,
        _temp_dir=folder,
    )
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
