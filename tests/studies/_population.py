"""Networks to choose among: checkpoints of good and bad runs, and failures that are planted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.studies._experiments import Experiment
from tests.studies._runner import CHECKPOINTS
from tests.studies.ablation import ALL_OFF, CAMVID, LEVELS, START, STREETS, WEIGHT, going_on
from uda.checkpoint import load_model, step_folder
from uda.classes import CLASS_NAMES
from uda.models import DeepLabV3Plus
from uda.randomness import generator

# What people do when nobody tells them better.
BAD = {
    "bad_adversarial": {f"levels.{name}.weight.value": 1.0 for name in LEVELS},
    "bad_entropy": {**ALL_OFF, WEIGHT.format("entropy"): 1.0},
    "bad_rate": {"optim.lr": 2e-2},
    "bad_teacher": {"teacher.threshold": 0.0, WEIGHT.format("self_training"): 10.0},
}
POPULATION: dict[str, list[Experiment]] = {
    "streets": [
        START,
        *(e for e in STREETS if not e.is_oracle),
        *(going_on(name, "full", changes) for name, changes in BAD.items()),
    ],
    "camvid": [
        *(e for e in CAMVID if not e.is_oracle),
        *(
            going_on(f"camvid_{name}", "full", changes, setting="camvid")
            for name, changes in BAD.items()
        ),
    ],
}
BAD_RUNS = [e for runs in POPULATION.values() for e in runs if "bad_" in e.name]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A checkpoint; one with `planted` is changed after it is loaded."""

    run: str
    seed: int
    step: int
    folder: Path
    planted: str = ""

    @property
    def key(self) -> str:
        return f"{self.run}-{self.seed}-{self.step}{self.planted and '-' + self.planted}"

    def load(self) -> DeepLabV3Plus:
        model = load_model(self.folder)
        if self.planted:
            with torch.no_grad():
                PLANTED[self.planted](model)
        return model


def candidates(setting: str, seeds: tuple[int, ...]) -> Iterator[Candidate]:
    """Those of `all_candidates` that are there."""
    return (one for one in all_candidates(setting, seeds) if one.folder.exists())


def all_candidates(setting: str, seeds: tuple[int, ...]) -> Iterator[Candidate]:
    """Every checkpoint that there could be, and the failures made of the last of `full`, seed 0."""
    for experiment in POPULATION[setting]:
        for seed in seeds:
            run, steps = experiment.folder(seed), experiment.config(seed).steps
            for step in [steps * (i + 1) // CHECKPOINTS for i in range(CHECKPOINTS)]:
                folder = step_folder(run, step)
                yield Candidate(run=experiment.name, seed=seed, step=step, folder=folder)
                is_full = experiment.name in ("full", "camvid_full")
                if is_full and seed == 0 and step == steps:
                    for name in PLANTED:
                        yield Candidate(
                            run=experiment.name, seed=seed, step=step, folder=folder, planted=name
                        )


def _one_class(model: DeepLabV3Plus) -> None:
    model.classifier.weight.zero_()
    _bias(model).zero_()[CLASS_NAMES.index("road")] = 10.0


def _mostly_one_class(model: DeepLabV3Plus) -> None:
    """Sky and road remain, as after a collapse that is not complete."""
    _bias(model)[CLASS_NAMES.index("road")] += 6.0


def _swap(first: str, second: str) -> Callable[[DeepLabV3Plus], None]:
    def swap(model: DeepLabV3Plus) -> None:
        there, back = [CLASS_NAMES.index(n) for n in (first, second)], slice(None, None, -1)
        for tensor in (model.classifier.weight, _bias(model)):
            tensor[there] = tensor[there[back]].clone()

    return swap


def _sure(model: DeepLabV3Plus) -> None:
    """Logits times 5: the same labels, and no more right for being sure of them."""
    model.classifier.weight.mul_(5.0)
    _bias(model).mul_(5.0)


def _shaken(model: DeepLabV3Plus) -> None:
    """BatchNorm means off by half of a deviation."""
    for number, module in enumerate(m for m in model.modules() if isinstance(m, _BatchNorm)):
        mean, variance = module.running_mean, module.running_var
        assert mean is not None
        assert variance is not None
        draws = generator(0, "shaken", number).standard_normal(len(mean))
        mean.add_(0.5 * variance.sqrt() * torch.as_tensor(draws, dtype=mean.dtype))


def _bias(model: DeepLabV3Plus) -> torch.Tensor:
    assert isinstance(model.classifier, nn.Conv2d)
    assert model.classifier.bias is not None
    return model.classifier.bias


PLANTED: dict[str, Callable[[DeepLabV3Plus], None]] = {
    "one_class": _one_class,
    "mostly_one_class": _mostly_one_class,
    "building_is_vegetation": _swap("building", "vegetation"),
    "person_is_rider": _swap("person", "rider"),
    "logits_times_5": _sure,
    "batch_norm_noise": _shaken,
}
