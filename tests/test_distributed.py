"""Two real processes with gloo: they must learn exactly what one process learns alone.

The two processes start once and run one function of this file after another. They compute in
double precision, so that only a real difference is seen, not the order of a sum.
"""

import multiprocessing
import os
import queue
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.tiny import METHODS, every_part, open_pair, shards, tiny_config, tiny_preset
from uda.checkpoint import TrainState
from uda.config import Config
from uda.distributed import average, gather, world
from uda.models import Teacher
from uda.presets.methods import METHODS as PRESET_METHODS

WORLD_SIZE = 2
TIMEOUT_S = 90
CPU = torch.device("cpu")


def compute_in_double() -> None:
    """From here on this process has no float32: new tensors and `.float()` are double."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]


class Ranks:
    """The two processes: `run(function, ...)` gives the list of what each rank returned."""

    def __init__(self, rendezvous: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._tasks = [context.Queue() for _ in range(WORLD_SIZE)]
        self._results = [context.Queue() for _ in range(WORLD_SIZE)]
        self._processes = [
            context.Process(target=serve, args=(rank, rendezvous, *queues), daemon=True)
            for rank, queues in enumerate(zip(self._tasks, self._results, strict=True))
        ]
        for process in self._processes:
            process.start()
        self._hangs = False

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        if self._hangs:
            pytest.fail("the processes hang since an earlier test")
        for tasks in self._tasks:
            tasks.put((function, arguments))
        answers = []
        for rank, results in enumerate(self._results):
            try:
                answers.append(results.get(timeout=TIMEOUT_S))
            except queue.Empty:
                self._hangs = True
                pytest.fail(f"rank {rank} did not answer within {TIMEOUT_S} s")
        for rank, (is_error, answer) in enumerate(answers):
            assert not is_error, f"rank {rank}:\n{answer}"
        return [answer for _, answer in answers]

    def close(self) -> None:
        for tasks in self._tasks:
            tasks.put(None)
        for process in self._processes:
            process.join(5 if self._hangs else 20)
            if process.is_alive():
                process.kill()


def serve(rank: int, rendezvous: Path, tasks: Any, results: Any) -> None:
    """What a process does: joins the group, then works off its queue."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    compute_in_double()
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD_SIZE
    )
    while (task := tasks.get()) is not None:
        function, arguments = task
        try:
            results.put((False, function(*arguments)))
        except Exception:
            results.put((True, traceback.format_exc()))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Iterator[Ranks]:
    ranks = Ranks(tmp_path_factory.mktemp("gloo") / "rendezvous")
    yield ranks
    ranks.close()


class Alone:
    """One process that is no member of a group, for the reference."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = context.Pool(1, compute_in_double)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.apply_async(function, arguments).get(TIMEOUT_S)


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    alone = Alone()
    yield alone
    alone._pool.terminate()
    alone._pool.join()


# --- what the processes run --------------------------------------------------------------------


def where() -> tuple[int, int]:
    return world()


def gather_rows() -> tuple[list, list, list]:
    """Gathered rows, the gradient of a loss that all rows enter, and rows without gradient."""
    rank, size = world()
    own = torch.arange(6.0).view(3, 2) + 10 * rank
    own.requires_grad_()
    rows = gather(own)
    products = rows @ rows.T
    (products**2).sum().backward()
    shares = gather(torch.tensor([[rank, 7.0]]))  # takes no gradient
    return rows.tolist(), (own.grad / size).tolist(), shares.tolist()


def learn(config: Config, source: Path, target: Path, num_steps: int) -> dict[str, list]:
    """Trains some steps as the loop does; returns weights, first gradients and mean terms."""
    rank, size = world()
    state = TrainState(config, CPU)
    state.task.double()
    state.task.start_copies()
    task: nn.Module = state.task
    if size > 1:
        task = DistributedDataParallel(task, find_unused_parameters=state.task.has_pauses)
    task.train()
    terms, gradients = [], {}
    with open_pair(config, source, target, rank=rank, world_size=size) as feed:
        for batch in feed.batches(0):
            output = task(batch)
            output.loss.backward()
            figures = {"total": output.loss.detach(), **output.terms}
            sums = torch.stack(list(figures.values()))
            if size > 1:
                dist.all_reduce(sums)
            terms.append(dict(zip(figures, (sums / size).tolist(), strict=True)))
            if batch.step == 0:
                gradients = plain(
                    {n: p.grad for n, p in state.task.named_parameters() if p.grad is not None}
                )
            state.optimisers.step(batch.step)
            state.task.after_step(batch.step)
            if batch.step + 1 == num_steps:
                break
    weights = plain(state.task.state_dict())
    return {"terms": terms, "gradients": gradients, "weights": weights}


def see_target(images: list[np.ndarray]) -> dict[str, Any]:
    """Statistics of a teacher's BatchNorm after each worker has seen its images."""
    teacher = Teacher(nn.Sequential(nn.BatchNorm2d(3)), "target").train()
    teacher(torch.as_tensor(images[world()[0]]))
    teacher.share_statistics()
    return plain(dict(teacher.network.named_buffers()))


def plain(tensors: dict[str, Tensor]) -> dict[str, Any]:
    # NumPy, because tensors sent to another process live in shared memory of their sender.
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def assert_close(ours: dict[str, Any], reference: dict[str, Any], tolerance: float) -> None:
    assert ours.keys() == reference.keys()
    for name, expected in reference.items():
        got, want = torch.as_tensor(ours[name]), torch.as_tensor(expected)
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance, msg=name)


# --- tests -------------------------------------------------------------------------------------


def test_alone_nothing_is_gathered_and_the_mean_is_ones_own():
    tensor = torch.zeros(2, 3)
    assert world() == (0, 1)
    assert gather(tensor) is tensor
    own = torch.arange(3.0)
    average([own])
    assert own.tolist() == [0, 1, 2]


@pytest.mark.slow
class TestGather:
    def test_every_process_knows_its_place(self, ranks):
        assert ranks.run(where) == [(0, 2), (1, 2)]

    def test_rows_in_rank_order_and_the_gradient_of_the_whole(self, ranks):
        whole = torch.cat([torch.arange(6.0).view(3, 2), torch.arange(6.0).view(3, 2) + 10])
        whole.requires_grad_()
        ((whole @ whole.T) ** 2).sum().backward()
        for rank, (rows, gradient, shares) in enumerate(ranks.run(gather_rows)):
            assert rows == whole.tolist()
            # Divided by the number of ranks, as averaging over them does.
            expected = whole.grad[3 * rank : 3 * rank + 3]
            torch.testing.assert_close(torch.tensor(gradient), expected)
            assert shares == [[0, 7], [1, 7]]


@pytest.mark.slow
class TestTeacherOfTheTarget:
    def test_its_statistics_are_of_the_images_of_all_workers(self, ranks):
        draws = np.random.default_rng(0)
        images = [draws.normal(place, scale, (2, 3, 4, 5)) for place, scale in ((3, 1), (-1, 2))]
        first, second = ranks.run(see_target, images)
        maps = [each.swapaxes(0, 1).reshape(3, -1) for each in images]
        mean = 0.1 * np.concatenate(maps, 1).mean(1)
        # The mean of the workers' own variances, without how far their means are apart.
        variance = 0.9 + 0.1 * (maps[0].var(1, ddof=1) + maps[1].var(1, ddof=1)) / 2
        np.testing.assert_allclose(first["0.running_mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(first["0.running_var"], variance, rtol=1e-12)
        assert first["0.num_batches_tracked"] == 1
        assert_close(second, first, 0.0)

    def test_after_a_run_all_workers_hold_the_same(self, ranks):
        changes = {"teacher.batch_norm": "target", "model.norm": "batch"}
        config = tiny_config("self_training", changes)
        answers = ranks.run(learn, config, shards("game"), shards("camera"), 3)
        first, second = (
            {n: v for n, v in answer["weights"].items() if n.startswith("teacher.")}
            for answer in answers
        )
        assert any(name.endswith("running_var") for name in first)
        assert_close(second, first, 0.0)


# A pause of each kind, a loss that does not reach the classifier, and clipping.
VARIANTS: dict[str, dict[str, Any]] = {
    "pauses": {
        "losses.supervised.weight": {"value": 1.0, "start": 1},
        "losses.self_training.weight": {"value": 1.0, "start": 2, "stop": 4},
        "losses.contrastive.weight": {"value": 1.0, "stop": 3},
        "levels.output.weight": {"value": 0.1, "start": 3},
    },
    "everything_pauses": {
        "losses.supervised.weight": {"value": 1.0, "start": 2},
        "losses.self_training.weight": 0.0,
        "losses.contrastive.weight": 0.0,
        "levels.output.weight": 0.0,
    },
    "contrast_alone": {
        "losses.supervised.weight": 0.0,
        "losses.self_training.weight": 0.0,
        "levels.output.weight": 0.0,
    },
    # The classifier learns from fooling alone, so at steps 0 and 3; who learns from what differs.
    "turns": {
        "losses.supervised.weight": 0.0,
        "losses.self_training.weight": 0.0,
        "levels.output.weight": 1.0,
        "levels.output.learn_every": 2,
        "levels.output.fool_every": 3,
    },
    "contrast_by_regression": {
        "losses.contrastive.objective": "regression",
        "losses.contrastive.pooling": "mean",
        "losses.contrastive.weight": 1.0,
    },
    "clipping": {"optim.clip_norm": 0.1},
}
CASES = (
    {name: tiny_config(name) for name in METHODS}
    | {name: tiny_config(changes=changes) for name, changes in VARIANTS.items()}
    | {f"preset {method}": tiny_preset(method) for method in PRESET_METHODS}
    | {"every part": every_part()}
)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_learns(name, ranks, alone):
    arguments = (CASES[name], shards("game"), shards("camera"), 5)
    first, second = ranks.run(learn, *arguments)
    reference = alone.run(learn, *arguments)
    # Losses, and the figures of health too: what is logged is their mean over the workers.
    torch.testing.assert_close(first["terms"], reference["terms"], rtol=1e-9, atol=1e-9)
    assert_close(first["gradients"], reference["gradients"], 1e-9)
    assert_close(first["weights"], reference["weights"], 1e-7)
    # Both hold the same to the last bit, or they would drift apart.
    assert_close(second["weights"], first["weights"], 0.0)
    moved = max(abs(v).max() for v in reference["gradients"].values())
    assert moved > 0 or name == "everything_pauses"


@pytest.mark.slow
def test_the_parts_take_part(alone):
    """Otherwise the comparison above would compare nothing."""
    reference = alone.run(learn, CASES["everything"], shards("game"), shards("camera"), 1)
    for part in ("student", "projection", "discriminators"):
        sizes = [abs(v).max() for n, v in reference["gradients"].items() if n.startswith(part)]
        assert max(sizes) > 1e-6, part
