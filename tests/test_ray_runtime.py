"""cluster/runtime.py: starting Ray, attaching to it, and refusing what would hang."""

import json
import os
import subprocess
import sys

import pytest

from uda.types import UserError

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    ("have", "workers", "cpus", "gpus", "message"),
    [
        ({"CPU": 4}, 2, 1, 0, None),
        ({"CPU": 3}, 2, 1, 0, r"CPUs: got 3 in the cluster, want 4 \(2 workers x 1 \+ 2"),
        ({"CPU": 3.0}, 2, 0.5, 0, None),
        ({}, 1, 1, 0, "CPUs: got 0"),
        ({"CPU": 99, "GPU": 1}, 2, 1, 2, "GPUs: got 1 in the cluster, want 2"),
        ({"CPU": 99}, 2, 1, 2, "GPUs: got 0"),
        ({"CPU": 99, "GPU": 2}, 2, 1, 2, None),
    ],
)
def test_resources_are_checked_instead_of_waited_for(have, workers, cpus, gpus, message):
    from cluster.runtime import compare_resources

    if message is None:
        compare_resources(have, workers, cpus, gpus)
    else:
        with pytest.raises(UserError, match=message):
            compare_resources(have, workers, cpus, gpus)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_running_ray_is_used_and_left_alone():
    import ray

    from cluster.runtime import check_resources, start_ray

    with start_ray(100):
        assert ray.cluster_resources()["CPU"] == 6
        check_resources(4, 1)
        with pytest.raises(UserError, match="CPUs: got 6 in the cluster, want 7"):
            check_resources(5, 1)
    assert ray.is_initialized()


LOCAL_PROBE = """
import json, os, sys
from cluster.runtime import start_ray
import ray
with start_ray(5):
    listening = []
    for file in ("tcp", "tcp6"):
        for line in open(f"/proc/net/{file}").read().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening.append((fields[9], fields[1].split(":")[0]))
    mine, family = set(), [os.getpid()]
    for process in family:  # grows while we walk it: all descendants
        try:
            for task in os.listdir(f"/proc/{process}/task"):
                family += open(f"/proc/{process}/task/{task}/children").read().split()
            for handle in os.listdir(f"/proc/{process}/fd"):
                mine.add(os.readlink(f"/proc/{process}/fd/{handle}"))
        except OSError:
            continue
    print(json.dumps({
        "cpus": ray.cluster_resources()["CPU"],
        "task": ray.get(ray.remote(lambda: os.environ.get("RAY_AUTH_MODE")).remote()),
        "addresses": sorted({a for inode, a in listening if f"socket:[{inode}]" in mine}),
        "token": len(os.environ["RAY_AUTH_TOKEN"]),
        "preloaded": ray.get(ray.remote(lambda: "pandas" in sys.modules).remote()),
    }))
assert not ray.is_initialized()
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, as IPv4 and in IPv6


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="looks at Linux's table of sockets")
def test_our_own_ray_is_private_and_large_enough(tmp_path):
    """Only loopback ports, token authentication, and nothing left in the home directory."""
    unwanted = ("RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    done = subprocess.run(
        [sys.executable, "-c", LOCAL_PROBE],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    probe = json.loads(done.stdout.splitlines()[-1])
    assert probe["cpus"] == max(5, os.cpu_count() or 1)
    assert probe["task"] == "token"
    assert probe["token"] == 64
    assert probe["preloaded"], "a task cancelled while it imports pandas would spoil its worker"
    assert probe["addresses"]
    assert set(probe["addresses"]) <= LOOPBACK
    assert not (tmp_path / ".ray").exists()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:6", "ray://127.0.0.1:6", "no-such-host.invalid:6379", "127.0.0.1:99999"]
)
def test_an_address_that_does_not_answer_is_an_error_at_once(address, monkeypatch):
    import ray

    from cluster.runtime import start_ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with (
        pytest.raises(UserError, match=f"Ray address: got {address}, want a cluster"),
        start_ray(1, address),
    ):
        pass
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="Ray address: got"), start_ray(1):
        pass
