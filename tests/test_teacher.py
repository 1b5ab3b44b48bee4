"""The teacher: its average against a slow loop, its modes, its isolation, its state."""

import pytest
import torch
from torch import Tensor, nn

from uda.models import ModelConfig, Teacher, build_model
from uda.models.teacher import ema_decay
from uda.types import UserError


class Student(nn.Module):
    """All a teacher must handle: BatchNorm, dropout, counters, a frozen part, a lost buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)
        )
        self.frozen = nn.Parameter(torch.ones(4, 1, 1), requires_grad=False)
        self.register_buffer("scale", torch.rand(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.frozen * self.scale


def perturb(module: nn.Module) -> None:
    """A training step's worth of change: parameters, running statistics, counters."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
            else:
                tensor.add_(1)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in named}


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.99, 1.0])
def test_update_against_a_slow_loop(decay):
    torch.manual_seed(0)
    student = Student()
    teacher = Teacher(student)
    expected = {name: value.double() for name, value in snapshot(teacher.network).items()}
    for step in range(6):
        perturb(student)
        teacher.update(student, step, decay)
        alpha = min(1 - 1 / (step + 1), decay)
        for name, value in snapshot(student).items():
            if name.endswith("num_batches_tracked"):
                expected[name] = value.double()
            else:
                expected[name] = alpha * expected[name] + (1 - alpha) * value.double()
        for name, value in snapshot(teacher.network).items():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-6)


def test_before_the_cap_the_teacher_is_the_mean_of_the_students():
    torch.manual_seed(0)
    student = Student()
    teacher = Teacher(student)
    seen = []
    for step in range(5):
        perturb(student)
        teacher.update(student, step, decay=0.999)
        seen.append(student.layers[0].weight.detach().clone())
    torch.testing.assert_close(teacher.network.layers[0].weight, torch.stack(seen).mean(0))


def test_first_update_copies_exactly():
    student = Student()
    teacher = Teacher(student)
    perturb(student)
    teacher.update(student, 0, 0.999)
    ours, theirs = snapshot(teacher.network), snapshot(student)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_whole_model_can_be_followed():
    """All buffers of DeepLabV3+ on a BatchNorm backbone, and the copy shares no memory with it."""
    student = build_model(ModelConfig(backbone="resnet18", aspp_channels=16, decoder_channels=16))
    teacher = Teacher(student)
    before = snapshot(teacher.network)
    perturb(student)
    untouched = snapshot(teacher.network)
    assert all(torch.equal(before[name], value) for name, value in untouched.items())
    teacher.update(student, 3, 0.5)
    got = snapshot(teacher.network)
    for name, value in snapshot(student).items():
        expected = value if not value.is_floating_point() else (before[name] + value) / 2
        torch.testing.assert_close(got[name], expected)


def test_no_gradient_reaches_it():
    student = Student()
    student(torch.randn(2, 3, 8, 8)).sum().backward()  # a used student has gradients to copy
    teacher = Teacher(student)
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    output = teacher(images)
    assert not output.requires_grad
    (student(images) * output).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    teacher.update(student, 1, 0.9)
    assert all(not p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.layers.parameters())


class TestModes:
    @pytest.mark.parametrize("batch_norm", ["batch", "running"])
    def test_dropout_stays_off_and_buffers_untouched(self, batch_norm):
        parent = nn.ModuleList([Teacher(Student(), batch_norm)]).train()
        teacher = parent[0]
        before = snapshot(teacher)
        images = torch.randn(4, 3, 8, 8)
        assert torch.equal(teacher(images), teacher(images))
        after = snapshot(teacher)
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert teacher.training
        assert not any(m.training for m in teacher.modules() if isinstance(m, nn.Dropout))

    @pytest.mark.parametrize("backbone", ["resnet18", "tf_efficientnet_lite0"])
    def test_batch_mode_normalises_by_the_batch(self, backbone):
        """Equals the student in training mode with its dropout off, for both libraries' norms."""
        torch.manual_seed(0)
        student = build_model(
            ModelConfig(backbone=backbone, aspp_channels=16, decoder_channels=16, dropout=0.0)
        )
        teacher = Teacher(student).train()
        images = torch.randn(2, 3, 40, 48)
        before = snapshot(teacher)
        got = teacher(images).logits
        assert all(torch.equal(before[name], value) for name, value in snapshot(teacher).items())
        torch.testing.assert_close(got, student.train()(images).logits.detach())

    def test_running_mode_and_evaluation_use_the_running_statistics(self):
        student = Student()
        perturb(student)
        images = torch.randn(3, 3, 8, 8)
        expected = student.eval()(images).detach()
        torch.testing.assert_close(Teacher(student, "running").train()(images), expected)
        torch.testing.assert_close(Teacher(student, "batch").eval()(images), expected)
        assert not torch.allclose(Teacher(student, "batch").train()(images), expected)

    def test_bad_inputs(self):
        with pytest.raises(
            UserError, match=r"batch_norm: got 'none', .*'batch', 'running', 'target'"
        ):
            Teacher(Student(), "none")
        for step, decay in ((-1, 0.9), (0, 1.5), (0, -0.1)):
            with pytest.raises(UserError, match="teacher: got step"):
                ema_decay(step, decay)
        with pytest.raises(AssertionError, match="another network"):
            Teacher(Student()).update(nn.Linear(1, 1), 0, 0.9)


class TestStatisticsOfTheTarget:
    """batch_norm="target": AdaBN's statistics, of the batches that the teacher itself has seen."""

    def images(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 3 + 2 * torch.randn(4, 3, 8, 8, generator=generator)

    def test_they_are_the_running_mean_of_what_it_saw(self):
        student = Student()
        teacher = Teacher(student, "target").train()
        norm, conv = teacher.network.layers[1], teacher.network.layers[0]
        mean, var = torch.zeros(4), torch.ones(4)
        for seed in range(3):
            images = self.images(seed)
            maps = conv(images).movedim(1, 0).flatten(1)
            expected = nn.functional.batch_norm(
                conv(images), None, None, norm.weight, norm.bias, training=True
            )
            got = teacher(images)
            torch.testing.assert_close(got, expected.relu() * student.frozen * student.scale)
            mean = 0.9 * mean + 0.1 * maps.mean(1)
            var = 0.9 * var + 0.1 * maps.var(1)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, var)
        assert norm.num_batches_tracked == 3
        untouched = student.layers[1]
        assert not untouched.running_mean.any()

    def test_parameters_are_averaged_and_statistics_are_not(self):
        student = Student()
        teacher = Teacher(student, "target").train()
        teacher(self.images(0))
        before = snapshot(teacher.network)
        for _ in range(2):
            perturb(student)
        teacher.update(student, 5, 0.6)
        after, theirs = snapshot(teacher.network), snapshot(student)
        for name, value in after.items():
            if "running" in name or name.endswith("num_batches_tracked"):
                assert torch.equal(value, before[name]), name
                assert not torch.equal(value, theirs[name]), name
            else:  # among them `scale`, a buffer that is no statistic
                torch.testing.assert_close(value, 0.6 * before[name] + 0.4 * theirs[name])

    def test_the_first_step_copies_all_of_the_student(self):
        student = Student()
        teacher = Teacher(student, "target").train()
        teacher(self.images(0))
        perturb(student)
        teacher.update(student, 0, 0.999)
        ours, theirs = snapshot(teacher.network), snapshot(student)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    def test_evaluation_uses_them_and_adds_nothing(self):
        torch.manual_seed(0)
        student = Student()
        teacher = Teacher(student, "target").train()
        for seed in range(60):
            teacher(self.images(seed))
        in_training = teacher(self.images(99))
        before = snapshot(teacher)
        teacher.eval()
        evaluated = teacher(self.images(99))
        after = snapshot(teacher)
        assert all(torch.equal(before[name], after[name]) for name in before)
        # The statistics of one batch are about those of all that look like it.
        torch.testing.assert_close(evaluated, in_training, rtol=0.3, atol=0.1)
        plain = Teacher(student, "batch").eval()(self.images(99))
        assert (plain - in_training).abs().mean() > 3 * (evaluated - in_training).abs().mean()
        teacher.train()
        teacher(self.images(0))
        assert not torch.equal(
            snapshot(teacher)["network.layers.1.running_mean"],
            before["network.layers.1.running_mean"],
        )

    def test_they_come_back_with_the_state_dict(self):
        student = Student()
        teacher = Teacher(student, "target").train()
        teacher(self.images(0))
        restored = Teacher(Student(), "target").train()
        restored.network.scale.copy_(teacher.network.scale)
        restored.load_state_dict(teacher.state_dict())
        for each in (teacher, restored):
            each.update(student, 2, 0.5)
            each(self.images(1))
        ours, theirs = snapshot(restored), snapshot(teacher)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert teacher.state_dict().keys() == {f"network.{key}" for key in student.state_dict()}

    def test_dropout_stays_off(self):
        teacher = Teacher(Student(), "target").train()
        assert not any(m.training for m in teacher.modules() if isinstance(m, nn.Dropout))
        assert torch.equal(teacher(self.images(0)), teacher(self.images(0)))


def test_state_dict_round_trip():
    student = Student()
    teacher = Teacher(student)
    for step in range(3):
        perturb(student)
        teacher.update(student, step, 0.5)
    restored = Teacher(Student())
    restored.network.scale.copy_(teacher.network.scale)  # not persistent by the student's choice
    restored.load_state_dict(teacher.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(restored(images), teacher(images))
    perturb(student)
    for each in (teacher, restored):
        each.update(student, 3, 0.5)
    ours, theirs = snapshot(restored), snapshot(teacher)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert teacher.state_dict().keys() == {f"network.{key}" for key in student.state_dict()}


def test_meta_build():
    with torch.device("meta"):
        teacher = Teacher(build_model(ModelConfig(backbone="tiny")))
        assert teacher(torch.empty(1, 3, 32, 64)).logits.shape == (1, 19, 32, 64)
    assert all(p.is_meta for p in teacher.parameters())
