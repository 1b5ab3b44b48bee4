"""Optimisers: who is trained, at which rate and decay; clipping; what a checkpoint keeps."""

import io
import math
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_config
from uda.config import Config
from uda.optim import Optimisers
from uda.task import AdaptationTask

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def build(method: str = "everything", **changes: object) -> tuple[AdaptationTask, Optimisers]:
    config = tiny_config(method, {f"optim.{name}": value for name, value in changes.items()})
    return build_from(config)


def build_from(config: Config) -> tuple[AdaptationTask, Optimisers]:
    with torch.random.fork_rng():
        task = AdaptationTask(config)
    return task, Optimisers(task, config)


def groups(optimisers: Optimisers) -> list[dict]:
    return list(chain.from_iterable(o.param_groups for o in optimisers._all))


def group_of(optimisers: Optimisers) -> dict[int, dict]:
    return {id(p): group for group in groups(optimisers) for p in group["params"]}


def fill_gradients(task: AdaptationTask, seed: int = 0, scale: float = 1.0) -> None:
    draws = torch.Generator().manual_seed(seed)
    for p in task.parameters():
        if p.requires_grad:
            p.grad = scale * torch.randn(p.shape, generator=draws)


def copies(task: AdaptationTask) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in task.named_parameters()}


# --- who is trained, and how -----------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["source_only", "self_training", "contrastive", "adversarial", "levels", "everything"]
)
def test_every_trained_parameter_is_stepped_exactly_once(method):
    task, optimisers = build(method)
    stepped = [id(p) for group in groups(optimisers) for p in group["params"]]
    assert len(stepped) == len(set(stepped)), "none twice"
    assert set(stepped) == {id(p) for p in task.parameters() if p.requires_grad}


def test_the_teacher_is_not_trained():
    task, optimisers = build("self_training")
    assert task.teacher is not None
    assert not {id(p) for p in task.teacher.parameters()} & group_of(optimisers).keys()


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "tf_efficientnet_lite0"])
def test_parameters_of_every_backbone_are_covered(backbone):
    with torch.device("meta"):
        config = tiny_config("source_only", {"model.backbone": backbone, "model.norm": "batch"})
        task, optimisers = build_from(config)
    assert group_of(optimisers).keys() == {id(p) for p in task.parameters()}


def test_head_and_projection_learn_ten_times_faster_than_the_backbone():
    task, optimisers = build(lr=1e-3, head_factor=10.0, warmup=0, decay="none")
    fill_gradients(task)
    before = copies(task)
    optimisers.step(0)
    # Adam's first step is the rate itself, whatever the gradient.
    for name, p in task.named_parameters():
        if not p.requires_grad or p.dim() > 1:  # weight decay moves the others a little too
            continue
        moved = (p - before[name]).abs().max().item()
        backbone = name.startswith("student.encoder.")
        discriminator = name.startswith("discriminators.")
        rate = 1e-3 if backbone or discriminator else 1e-2
        assert moved == pytest.approx(rate, rel=1e-2), name


def test_each_discriminator_learns_at_its_own_multiple_of_the_rate():
    changes = {"optim.discriminator_lr": 1e-3, "optim.warmup": 0, "optim.decay": "linear",
               "levels.look.lr_factor": 0.5, "levels.classes.lr_factor": 3.0}  # fmt: skip
    task, optimisers = build_from(tiny_config("levels", changes))
    for step, share in ((0, 1.0), (10, 0.5)):
        fill_gradients(task)
        optimisers.step(step)
        rates = {g["name"].partition("/")[2]: g["lr"] for g in optimisers._all[1].param_groups}
        tops = {"look": 5e-4, "classes": 3e-3, "output": 1e-3}
        assert rates == {name: pytest.approx(share * top) for name, top in tops.items()}
        assert optimisers.rates(step)["discriminator"] == pytest.approx(share * 1e-3)
    for name, network in task.discriminators.items():
        group = group_of(optimisers)
        assert {group[id(p)]["name"] for p in network.parameters()} == {f"discriminator/{name}"}


def test_weights_decay_and_norms_and_biases_do_not():
    task, optimisers = build(weight_decay=0.05)
    where = group_of(optimisers)
    for module_name, module in task.named_modules():
        for name, p in module.named_parameters(recurse=False):
            if not p.requires_grad:
                continue
            free = (
                isinstance(module, NORMS)
                or name == "bias"
                or module_name.startswith("discriminators.")
            )
            wanted = 0.0 if free else 0.05
            assert where[id(p)]["weight_decay"] == wanted, f"{module_name}.{name}"


def test_decay_is_decoupled_it_shrinks_a_weight_without_gradient_by_rate_times_decay():
    task, optimisers = build(lr=0.1, head_factor=2.0, weight_decay=0.5, warmup=0, decay="none")
    for p in task.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    before = copies(task)
    optimisers.step(0)
    after = copies(task)
    kernel, scale = "student.classifier.weight", "student.classifier.bias"
    torch.testing.assert_close(after[kernel], before[kernel] * (1 - 0.1 * 2 * 0.5))
    assert torch.equal(after[scale], before[scale])


def test_networks_use_adamw_and_adversaries_adam_with_a_shorter_memory():
    _, optimisers = build()
    network, adversaries = optimisers._all
    assert isinstance(network, torch.optim.AdamW)
    assert network.defaults["betas"] == (0.9, 0.999)
    assert not isinstance(adversaries, torch.optim.AdamW)
    assert adversaries.defaults["betas"] == (0.9, 0.99)
    assert len(build("source_only")[1]._all) == 1


def test_an_unfused_optimiser_is_still_free_to_take_many_tensors_at_once():
    """fused=False, said explicitly, would make PyTorch loop over the tensors one by one on GPUs."""
    _, optimisers = build()
    for optimiser in optimisers._all:
        assert optimiser.defaults["fused"] is None
        assert optimiser.defaults["foreach"] is None
    _, fused = build_from(tiny_config(changes={"runtime.fused_optimiser": True}))
    assert all(optimiser.defaults["fused"] for optimiser in fused._all)


# --- rates -----------------------------------------------------------------------------------


def expected_rate(step: int, top: float, warmup: int, steps: int, decay: str) -> float:
    progress = step / steps
    fall = {
        "none": 1.0,
        "linear": 1 - progress,
        "poly": (1 - progress) ** 0.9,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
    }[decay]
    return top * fall * (min(1.0, (step + 1) / warmup) if warmup else 1.0)


@pytest.mark.parametrize("decay", ["none", "linear", "poly", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3, 100])
def test_rates_rise_over_the_warmup_and_fall_until_the_last_step(decay, warmup):
    _, optimisers = build(
        lr=1e-3, head_factor=10.0, discriminator_lr=5e-4, warmup=warmup, decay=decay
    )
    for step in (0, 1, 2, 3, 10, 19):
        rates = optimisers.rates(step)
        tops = {"backbone": 1e-3, "head": 1e-2, "discriminator": 5e-4}
        assert rates.keys() == tops.keys()
        for name, top in tops.items():
            assert rates[name] == pytest.approx(expected_rate(step, top, warmup, 20, decay))
            assert rates[name] > 0


def test_the_rate_of_the_step_is_the_one_that_is_used_with_and_without_decay():
    task, optimisers = build()
    for step in (0, 5):
        fill_gradients(task)
        optimisers.step(step)
        rates = optimisers.rates(step)
        for group in groups(optimisers):
            assert group["lr"] == rates[group["name"].partition("/")[0]]


def test_gradients_are_cleared():
    task, optimisers = build()
    fill_gradients(task)
    optimisers.step(0)
    assert all(p.grad is None for p in task.parameters())


def test_a_part_without_gradient_is_left_alone():
    """As when its weight is zero at this step."""
    task, optimisers = build()
    fill_gradients(task)
    for p in task.discriminators.parameters():
        p.grad = None
    before = copies(task)
    optimisers.step(5)
    for name, p in task.named_parameters():
        moved = not torch.equal(p, before[name])
        assert moved == (p.requires_grad and not name.startswith("discriminators.")), name


# --- clipping --------------------------------------------------------------------------------


def first_moment_norm(task: AdaptationTask, optimisers: Optimisers, adversaries: bool) -> float:
    """Norm of the gradients that the optimiser saw at its first step: its mean / (1 - 0.9)."""
    state = {p: s for o in optimisers._all for p, s in o.state.items()}
    seen = [
        state[p]["exp_avg"] / 0.1
        for name, p in task.named_parameters()
        if p.requires_grad and name.startswith("discriminators.") == adversaries
    ]
    return math.sqrt(sum((g.double() ** 2).sum().item() for g in seen))


@pytest.mark.parametrize(("clip", "factor"), [(0.0, 1.0), (1e6, 1.0), (2.0, None)])
def test_the_network_is_clipped_as_a_whole_and_the_adversaries_are_not(clip, factor):
    task, optimisers = build(clip_norm=clip)
    fill_gradients(task)
    norms = {
        adversaries: math.sqrt(
            sum(
                (p.grad.double() ** 2).sum().item()
                for name, p in task.named_parameters()
                if p.requires_grad and name.startswith("discriminators.") == adversaries
            )
        )
        for adversaries in (False, True)
    }
    assert norms[False] > 10
    optimisers.step(0)
    wanted = clip if factor is None else factor * norms[False]
    assert first_moment_norm(task, optimisers, adversaries=False) == pytest.approx(wanted, rel=1e-3)
    untouched = first_moment_norm(task, optimisers, adversaries=True)
    assert untouched == pytest.approx(norms[True], rel=1e-3)


# --- what a checkpoint keeps -----------------------------------------------------------------


def train(task: AdaptationTask, optimisers: Optimisers, steps: range) -> None:
    for step in steps:
        fill_gradients(task, seed=step)
        optimisers.step(step)


def test_state_survives_a_file_and_training_goes_on_as_if_uninterrupted():
    task, optimisers = build()
    train(task, optimisers, range(6))

    first, its_optimisers = build()
    train(first, its_optimisers, range(3))
    file = io.BytesIO()
    torch.save({"task": first.state_dict(), "optim": its_optimisers.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, new_optimisers = build()
    second.load_state_dict(saved["task"])
    new_optimisers.load_state_dict(saved["optim"])
    train(second, new_optimisers, range(3, 6))

    expected, resumed = copies(task), copies(second)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_without_its_state_training_would_go_on_differently():
    task, optimisers = build()
    train(task, optimisers, range(3))
    other, fresh = build()
    other.load_state_dict(task.state_dict())
    train(task, optimisers, range(3, 4))
    train(other, fresh, range(3, 4))
    assert not torch.equal(other.student.classifier.weight, task.student.classifier.weight)


def test_state_of_another_run_leaves_rates_and_decay_as_they_are():
    """Where a trial goes on from another one's checkpoint, with settings of its own."""
    task, optimisers = build(weight_decay=0.01, lr=1e-3)
    train(task, optimisers, range(3))
    other, fresh = build(weight_decay=0.5, lr=1e-2)
    fresh.load_state_dict(optimisers.state_dict())
    assert {group["weight_decay"] for group in fresh._all[0].param_groups} == {0.5, 0.0}
    train(other, fresh, range(3, 4))
    (backbone,) = (g for g in groups(fresh) if g["name"] == "backbone")
    assert backbone["lr"] == pytest.approx(fresh.rates(3)["backbone"])


def test_state_of_another_set_of_parameters_is_refused():
    _, everything = build("everything")
    _, less = build("source_only")
    with pytest.raises(ValueError, match="parameter group"):
        everything.load_state_dict(less.state_dict())
