"""One forward, one backward: gradients, what is built, what is computed and what is refused."""

import copy
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.edited_shards import edit_shards, with_column
from tests.tiny import (
    METHODS,
    OUTPUT,
    loaded_tensors,
    random_batch,
    run_training,
    shards,
    tiny_config,
)
from uda.adversaries import adversarial_terms
from uda.config import Config
from uda.data.shards import open_shards
from uda.losses import contrastive, pixel_contrast, prototype_contrast
from uda.losses.adversarial import Level
from uda.losses.entropy import Entropy
from uda.losses.supervised import Supervised
from uda.models import ModelConfig
from uda.scene import Scene
from uda.schedule import Schedule, constant
from uda.task import AdaptationTask, preflight
from uda.types import Unlabelled, UserError

UNCHANGED_COLOURS = {
    f"augment.{what}.{p}_probability": 0.0
    for what in ("source", "mixed")
    for p in ("jitter", "blur")
}


def build(config: Config) -> AdaptationTask:
    task = AdaptationTask(config)
    task.train()
    return task


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in module.named_parameters()}


def with_levels(config: Config, *levels: Level) -> Config:
    return dataclasses.replace(config, levels=levels)


class TestAdversarialGradients:
    """Against the classic update with three backward passes (AdaptSegNet's train.py)."""

    LEVELS = (
        Level(name="output", weight=constant(0.3), width=4),
        Level(name="surprise", sees="self_information", weight=constant(0.2), width=4,
              objective="least_squares"),
        Level(name="middle", reads="layer2", sees="plain", weight=constant(0.5), width=4),
        Level(name="look", reads="stem", sees="statistics", weight=constant(0.4), width=4),
        Level(name="classes", reads="layer3", sees="plain", conditional=True, width=2,
              weight=constant(0.6)),
    )  # fmt: skip

    def classic(self, task: AdaptationTask) -> tuple[nn.Module, nn.ModuleDict]:
        """Copies of the networks with the gradients of three phases, requires_grad toggled."""
        student, discriminators = copy.deepcopy(task.student), copy.deepcopy(task.discriminators)
        batch = random_batch(task.config)
        source = student(student.normalise(batch.source.images))
        target = student(student.normalise(batch.target.images))

        def shown(output: Any, name: str) -> Tensor:
            features = {"middle": "layer2", "look": "stem", "classes": "layer3"}
            if name in features:
                maps = output.features[features[name]]
                if name != "look":
                    return maps
                mean = maps.mean((2, 3), keepdim=True)
                deviation = (((maps - mean) ** 2).mean((2, 3), keepdim=True) + 1e-5).sqrt()
                return torch.cat([mean, deviation], 1)
            p = output.logits.softmax(1)
            return p if name == "output" else -p * torch.log2(p) / torch.log2(torch.tensor(19.0))

        def loss(judged: Tensor, label: float, name: str, output: Any) -> Tensor:
            if name == "surprise":
                return ((judged - label) ** 2).mean()
            if name == "classes":
                told = (output.logits.detach() / 1.8).softmax(1)
                told = F.avg_pool2d(told, told.shape[2] // judged.shape[2]).clamp(max=0.9)
                halves = [told * (1 - label), told * label]
                return -(torch.cat(halves, 1) * judged.softmax(1).log()).sum(1).mean()
            # Binary cross-entropy by its definition, source = 0 and target = 1.
            p = torch.sigmoid(judged)
            return -(label * p.log() + (1 - label) * (1 - p).log()).mean()

        discriminators.requires_grad_(False)
        labels = batch.source.labels.long()
        losses = F.cross_entropy(source.logits, labels, ignore_index=255, reduction="none")
        losses.mean().backward(retain_graph=True)
        for level in self.LEVELS:
            judged = discriminators[level.name](shown(target, level.name))
            fooling = loss(judged, 0.0, level.name, target)
            (level.weight.value * fooling).backward(retain_graph=True)
        discriminators.requires_grad_(True)
        for level in self.LEVELS:
            network = discriminators[level.name]
            for label, output in ((0.0, source), (1.0, target)):
                judged = network(shown(output, level.name).detach())
                (loss(judged, label, level.name, output) / 2).backward()
        return student, discriminators

    def test_equal_those_of_three_phases_parameter_by_parameter(self):
        config = with_levels(tiny_config("source_only", UNCHANGED_COLOURS), *self.LEVELS)
        task = build(config)
        # Weights of a fresh discriminator are too small to tell a wrong sign from a right one.
        with torch.no_grad():
            for parameter in task.discriminators.parameters():
                parameter.mul_(3.0)
            task.student.classifier.weight.mul_(30.0)
        student, discriminators = self.classic(task)
        task(random_batch(config)).loss.backward()
        for ours, classic in ((task.student, student), (task.discriminators, discriminators)):
            for name, grad in gradients(ours).items():
                expected = dict(classic.named_parameters())[name].grad
                assert grad is not None, name
                assert expected is not None, name
                assert expected.abs().max() > 0, name
                scale = float(expected.abs().max())
                torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-5 * scale, msg=name)

    def one_level(self, level: Level, *, learns: bool) -> AdaptationTask:
        """The task with the gradients of one of a level's two terms."""
        turns = {"learn_every": 2 if not learns else 1, "fool_every": 2 if learns else 1}
        level = dataclasses.replace(level, **turns)
        config = with_levels(tiny_config("source_only"), level)
        task = build(config)
        scene = Scene(random_batch(config), config, task.student, None, None)
        network = task.discriminators[level.name]
        ((term,), _) = adversarial_terms(level, network, scene, step=1)
        term.backward()
        return task

    @pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
    def test_fooling_reaches_the_student_but_not_the_discriminator(self, level):
        task = self.one_level(level, learns=False)
        assert all(grad is None for grad in gradients(task.discriminators).values())
        reached = {name for name, grad in gradients(task.student).items() if grad is not None}
        assert any(name.startswith("encoder.stem") for name in reached)
        # What lies behind the tap is not reached: a class-conditional level reads no gradient of
        # the predictions.
        assert ("classifier.weight" in reached) == (level.reads == "output")

    @pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
    def test_the_discriminators_own_term_does_not_reach_the_student(self, level):
        task = self.one_level(level, learns=True)
        assert all(grad is None for grad in gradients(task.student).values())
        assert all(grad is not None for grad in gradients(task.discriminators).values())

    def test_no_parameter_loses_its_requires_grad(self):
        config = tiny_config()
        task = build(config)
        task(random_batch(config)).loss.backward()
        trained = (task.student, task.projection, task.discriminators)
        assert all(p.requires_grad for part in trained for p in part.parameters())


class TestWholeStep:
    def test_every_trained_parameter_gets_a_gradient_and_the_teacher_none(self):
        config = tiny_config()
        task = build(config)
        task(random_batch(config)).loss.backward()
        for name, parameter in task.named_parameters():
            if name.startswith("teacher."):
                assert parameter.grad is None, name
                assert not parameter.requires_grad, name
            else:
                assert parameter.grad is not None, name

    def test_terms_are_detached_scalars_that_add_up_to_the_loss(self):
        config = tiny_config(changes={"losses.contrastive.weight": 0.3})
        output = build(config)(random_batch(config))
        for name, term in output.terms.items():
            assert not term.requires_grad, name
            assert term.shape == (), name
        terms = output.terms
        total = terms["supervised"] + terms["self_training"] + 0.3 * terms["contrastive"]
        total = total + terms["output/discriminator"] + 0.01 * terms["output/fooling"]
        torch.testing.assert_close(output.loss.detach(), total)
        assert output.loss.requires_grad

    @pytest.mark.parametrize(
        ("method", "module", "collectives"),
        [
            ("contrastive", contrastive, 1),
            ("pixels", pixel_contrast, 1),
            ("prototypes", prototype_contrast, 2),  # of health and of the memory
        ],
    )
    def test_what_value_health_and_memory_share_is_computed_once(
        self, method, module, collectives, monkeypatch
    ):
        gathered = []
        monkeypatch.setattr(module, "gather", lambda rows: gathered.append(rows) or rows)
        config = tiny_config(method)
        terms = build(config)(random_batch(config)).terms
        assert len(gathered) == collectives
        assert any(name.startswith("health/") for name in terms)

    def test_what_health_looks_at_first_others_can_learn_from(self):
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Looking(Supervised):
            name = "looking"

            def health(self, target_logits):
                return {"largest": target_logits.softmax(1).max()}

        config = tiny_config("source_only")
        task = build(config)
        task._losses = (Looking(weight=constant(1e-9)), Entropy(weight=constant(1.0)))
        output = task(random_batch(config))
        assert not output.terms["health/looking/largest"].requires_grad
        output.loss.backward()
        entropy = task.student.classifier.weight.grad
        assert entropy.abs().max() > 1e-6

    def test_random_numbers_follow_from_seed_and_step_alone(self):
        config = tiny_config()
        losses = []
        for noise in (1, 2):
            task = build(config)  # anew, for a step leaves something in memory
            torch.manual_seed(noise)
            losses.append(task(random_batch(config)).loss)
        assert torch.equal(losses[0], losses[1])
        other_step = dataclasses.replace(random_batch(config), step=1)
        assert not torch.equal(task(other_step).loss, losses[0])

    def test_first_weights_follow_from_the_seed_alone(self):
        torch.manual_seed(1)
        first = AdaptationTask(tiny_config()).state_dict()
        torch.manual_seed(2)
        second = AdaptationTask(tiny_config()).state_dict()
        other = AdaptationTask(tiny_config(changes={"seed": 4})).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not torch.equal(
            first["student.classifier.weight"], other["student.classifier.weight"]
        )

    def test_the_student_is_the_same_whatever_the_method(self):
        weights = [AdaptationTask(tiny_config(method)).student.state_dict() for method in METHODS]
        for other in weights[1:]:
            assert all(torch.equal(weights[0][name], other[name]) for name in other)

    def test_the_teacher_follows_the_student_after_the_first_step(self):
        config = tiny_config("self_training")
        task = build(config)
        with torch.no_grad():
            task.student.classifier.weight.add_(1.0)
        before = task.teacher.network.classifier.weight.clone()
        task.after_step(99)
        after = task.teacher.network.classifier.weight
        torch.testing.assert_close(after, 0.9 * before + 0.1 * task.student.classifier.weight)
        task.start_copies()
        assert torch.equal(task.teacher.network.classifier.weight, task.student.classifier.weight)


class TestPartsThatAreOff:
    @pytest.mark.parametrize(
        ("method", "student", "teacher", "built"),
        [
            ("source_only", 1, 0, set()),
            ("self_training", 2, 1, {"teacher"}),
            ("contrastive", 2, 1, {"teacher", "projection"}),
            ("adversarial", 2, 0, {"discriminators"}),
            ("levels", 2, 0, {"discriminators"}),
            ("everything", 3, 1, {"teacher", "projection", "discriminators"}),
        ],
    )
    def test_forwards_and_networks(self, method, student, teacher, built):
        config = tiny_config(method)
        task = build(config)
        parts = {name: getattr(task, name) for name in ("teacher", "projection", "discriminators")}
        assert {name for name, part in parts.items() if part} == built
        calls = count_forwards(task)
        task(random_batch(config)).loss.backward()
        assert calls == {"student": student, "teacher": teacher}

    def test_zero_weights_build_nothing(self):
        off = {"losses.self_training.weight": 0, "losses.contrastive.weight": 0,
               "levels.output.weight": 0}  # fmt: skip
        task = build(tiny_config(changes=off))
        assert task.teacher is None
        assert task.projection is None
        assert len(task.discriminators) == 0
        assert set(task.state_dict()) == {f"student.{name}" for name in task.student.state_dict()}

    def test_a_teacher_that_is_only_evaluated_is_built_but_not_asked(self):
        config = tiny_config("source_only", {"evaluated": "teacher"})
        task = build(config)
        calls = count_forwards(task)
        task(random_batch(config))
        assert calls == {"student": 1, "teacher": 0}
        assert task.evaluated is task.teacher.network

    @pytest.mark.parametrize(("norm", "calls_of_teacher"), [("group", 0), ("batch", 1)])
    def test_only_a_teacher_with_statistics_of_its_own_is_asked_for_their_sake(
        self, norm, calls_of_teacher
    ):
        config = tiny_config("source_only", {
            "evaluated": "teacher", "teacher.batch_norm": "target", "model.norm": norm,
        })  # fmt: skip
        task = build(config)
        calls = count_forwards(task)
        task(random_batch(config))
        assert calls == {"student": 1, "teacher": calls_of_teacher}

    def test_pauses_cost_nothing(self):
        config = tiny_config(changes=paused(self_training=(2, 4), contrastive=(3, 5)))
        level = dataclasses.replace(OUTPUT, weight=Schedule(value=1.0, start=6))
        config = with_levels(config, level)
        task = build(config)
        assert task.has_pauses
        calls = count_forwards(task)
        terms = {}
        for step in range(8):
            calls.update(student=0, teacher=0)
            output = task(random_batch(config, step))
            names = {name.removeprefix("health/").split("/")[0] for name in output.terms}
            terms[step] = (names, dict(calls))
        assert terms[1] == ({"supervised"}, {"student": 1, "teacher": 0})
        assert terms[2] == ({"supervised", "self_training"}, {"student": 2, "teacher": 1})
        assert terms[3] == (
            {"supervised", "self_training", "contrastive"}, {"student": 3, "teacher": 1}
        )  # fmt: skip
        assert terms[4] == ({"supervised", "contrastive"}, {"student": 2, "teacher": 1})
        assert terms[5] == ({"supervised"}, {"student": 1, "teacher": 0})
        assert terms[6] == ({"supervised", "output"}, {"student": 2, "teacher": 0})

    def test_a_step_at_which_everything_pauses_moves_nothing_and_does_not_fail(self):
        config = tiny_config("source_only", paused(supervised=(5, 0)))
        task = build(config)
        output = task(random_batch(config))
        output.loss.backward()
        assert output.loss == 0
        assert output.terms == {}
        assert all(not grad.any() for grad in gradients(task.student).values())

    def test_no_pauses_without_start_and_stop(self):
        assert not build(tiny_config()).has_pauses


class TestTargetLabels:
    def test_the_target_has_no_labels_to_read(self):
        target = random_batch(tiny_config()).target
        with pytest.raises(AttributeError):
            _ = target.labels
        assert [field.name for field in dataclasses.fields(Unlabelled)] == ["images"]

    @pytest.mark.parametrize("how", ["deleted", "poisoned"])
    def test_training_is_bit_identical_whatever_they_are(self, how, tmp_path):
        config = tiny_config(changes={"steps": 4, "runtime.log_every": 1})
        damaged = damage_labels(shards("camera"), tmp_path / "target", how)
        run_training(config, tmp_path / "plain")
        run_training(config, tmp_path / "other", damaged)
        plain = loaded_tensors(config, tmp_path / "plain" / "step-0000004")
        other = loaded_tensors(config, tmp_path / "other" / "step-0000004")
        assert plain.keys() == other.keys()
        assert all(torch.equal(plain[name], other[name]) for name in plain)


class TestPreflight:
    def test_accepts_what_can_run(self):
        for method in METHODS:
            preflight(tiny_config(method), num_workers=2)

    def test_allocates_no_weights(self):
        config = tiny_config(changes={"model.backbone": "resnet101", "data.crop.height": 512,
                                      "data.crop.width": 1024})  # fmt: skip
        preflight(config)

    @pytest.mark.parametrize(
        ("changes", "workers", "words"),
        [
            ({"projection.reads": "layer9"}, 1, ["projection.reads", "layer9", "aspp"]),
            ({"batch_size": 7}, 2, ["workers", "batch_size = 7", "1, 7"]),
            ({"batch_size": 4}, 0, ["workers", "got 0"]),
            ({"data.crop.height": 16}, 1, ["losses.contrastive.grid", "2 x 3", "1 x 3"]),
            ({"data.crop.height": 16, "losses.contrastive.weight": 0}, 1, ["16"]),
            ({"data.crop.height": 2, "data.crop.width": 2}, 1, ["2"]),
        ],
    )
    def test_says_in_one_line_what_does_not_fit(self, changes, workers, words):
        with pytest.raises(UserError) as caught:
            preflight(tiny_config(changes=changes), workers)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)

    def test_unknown_tap_of_a_level(self):
        config = with_levels(tiny_config(), Level(name="odd", reads="layer9", sees="plain"))
        with pytest.raises(UserError, match=r"levels\.odd\.reads: got 'layer9'.*layer4"):
            preflight(config)

    def test_a_part_that_is_active_between_the_ends_only_is_tried_too(self):
        level = dataclasses.replace(OUTPUT, weight=Schedule(value=1.0, start=5, stop=8))
        config = with_levels(tiny_config("source_only", {"data.crop.height": 16}), level)
        preflight(tiny_config("source_only", {"data.crop.height": 16}))
        with pytest.raises(UserError, match="discriminator"):
            preflight(config)

    @pytest.mark.parametrize("path", ["losses.contrastive", "levels.output"])
    def test_a_part_that_would_never_begin_is_refused(self, path):
        start = f"{path}.weight.start"
        preflight(tiny_config(changes={start: 19}))
        preflight(tiny_config(changes={start: 20, f"{path}.weight.value": 0.0}))
        with pytest.raises(UserError, match=rf"^{start}: got 20 with steps = 20, want less") as e:
            preflight(tiny_config(changes={start: 20}))
        assert "\n" not in str(e.value)

    def test_batch_norm_that_gets_a_single_value(self):
        model = ModelConfig(
            backbone="resnet18",
            output_stride=32,
            aspp_channels=8,
            aspp_dilations=(2,),
            low_level_channels=8,
            decoder_channels=8,
        )
        config = tiny_config("source_only", {"batch_size": 2, "data.crop.width": 32})
        config = dataclasses.replace(config, model=model)
        preflight(config, num_workers=1)
        with pytest.raises(UserError, match="a training step cannot run"):
            preflight(config, num_workers=2)


def count_forwards(task: AdaptationTask) -> dict[str, int]:
    """How often student and teacher are asked, kept up to date by hooks."""
    calls = {"student": 0, "teacher": 0}

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    task.student.register_forward_hook(count("student"))
    if task.teacher is not None:
        task.teacher.network.register_forward_hook(count("teacher"))
    return calls


def paused(**windows: tuple[int, int]) -> dict[str, Any]:
    """Changes that make losses active in [start, stop) only."""
    return {
        f"losses.{name}.weight": {"value": 1.0, "start": start, "stop": stop}
        for name, (start, stop) in windows.items()
    }


def damage_labels(folder: Path, copy_to: Path, how: str) -> Path:
    """A copy of a shard folder without labels, or with garbage for labels and statistics."""
    shutil.copytree(folder, copy_to)

    def damage(table: pa.Table) -> pa.Table:
        for name, garbage in (("label", b"poison"), ("class_pixels", [10**9] * 19)):
            values = [None if how == "deleted" else garbage] * len(table)
            table = with_column(table, name, values)
        return table

    edit_shards(copy_to, damage)
    assert len(open_shards(copy_to)) == len(open_shards(folder))
    return copy_to
