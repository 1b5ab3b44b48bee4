"""The segmentation network: every backbone of the table, and what the forward promises."""

import time

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from tests.small_models import LITE0, randomise_norms, small_config, small_model
from uda.models import BACKBONES, ModelConfig, build_model
from uda.models.backbones import OUTPUT_STRIDES, TAPS, tap_strides
from uda.models.layers import NORMS
from uda.types import UserError


class TestBackbones:
    @pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
    @pytest.mark.parametrize("name", BACKBONES)
    def test_taps_have_the_promised_strides_and_channels(self, name, output_stride):
        backbone = BACKBONES[name]
        with torch.device("meta"):
            taps = backbone.build(output_stride)(torch.empty(2, 3, 96, 160))
        strides = tap_strides(output_stride)
        assert tuple(taps) == TAPS
        for tap, channels in backbone.tap_channels.items():
            assert taps[tap].shape == (2, channels, 96 // strides[tap], 160 // strides[tap]), tap

    @pytest.mark.parametrize("output_stride", [8, 16])
    @pytest.mark.parametrize("name", ["resnet50", "resnet101"])
    def test_dilation_of_bottlenecks_equals_torchvision(self, name, output_stride):
        with torch.device("meta"):
            ours = BACKBONES[name].build(output_stride)
            theirs = torchvision.models.get_model(
                name, replace_stride_with_dilation=[False, output_stride == 8, True]
            )
        expected = {n: m.extra_repr() for n, m in theirs.named_modules() if n != "fc"}
        got = {n: m.extra_repr() for n, m in ours.named_modules()}
        assert {n: expected[n] for n in got} == got

    @pytest.mark.parametrize("output_stride", [8, 16])
    @pytest.mark.parametrize("name", ["resnet18", "resnet50"])
    def test_dense_maps_hold_the_strided_maps_on_their_grid(self, name, output_stride):
        torch.manual_seed(0)
        strided, dense = (BACKBONES[name].build(s).double().eval() for s in (32, output_stride))
        dense.load_state_dict(strided.state_dict())
        images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
        with torch.no_grad():
            expected, got = strided(images), dense(images)
        for tap, stride in tap_strides(32).items():
            step = max(1, stride // output_stride)
            torch.testing.assert_close(got[tap][..., ::step, ::step], expected[tap])

    def test_parameter_counts(self):
        """torchvision's published counts without the classifier; SegmenTron's whole network."""
        with torch.device("meta"):
            counts = {n: _num_parameters(BACKBONES[n].build(16)) for n in BACKBONES}
            whole = _num_parameters(build_model(ModelConfig()))
        assert counts["resnet18"] == 11_689_512 - 513_000
        assert counts["resnet50"] == 25_557_032 - 2_049_000
        assert counts["resnet101"] == 44_549_160 - 2_049_000
        assert 50_000 <= counts["tiny"] <= 100_000
        assert whole == 45_687_747

    def test_tiny_treats_images_apart(self):
        model = BACKBONES["tiny"].build(16)
        images = torch.randn(3, 3, 64, 64)
        alone = model(images[1:2])["layer4"]
        torch.testing.assert_close(model(images)["layer4"][1:2], alone)

    @pytest.mark.parametrize("output_stride", [0, 4, 64])
    def test_bad_output_stride_is_the_users_mistake(self, output_stride):
        with pytest.raises(UserError, match=r"output_stride: got .* have \[8, 16, 32\]"):
            BACKBONES["tiny"].build(output_stride)


class TestDeepLabV3Plus:
    @pytest.mark.parametrize("name", BACKBONES)
    def test_every_parameter_gets_a_gradient(self, name):
        model = small_model(name).train()
        model(torch.randn(2, 3, 48, 64)).logits.square().mean().backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key

    @pytest.mark.parametrize("name", BACKBONES)
    def test_meta_forward_gives_shapes_without_memory(self, name):
        start = time.process_time()
        with torch.device("meta"):
            model = build_model(ModelConfig(backbone=name))
            output = model(model.normalise(torch.empty(2, 3, 129, 257, dtype=torch.uint8)))
        assert time.process_time() - start < 1.5  # a preflight answers at once
        assert output.logits.shape == (2, 19, 129, 257)
        assert all(t.is_meta for t in (*model.parameters(), *model.buffers()))
        assert (
            set(output.features) | {"output"} == set(model.tap_channels) == set(model.tap_strides)
        )
        for tap, feature in output.features.items():
            stride = model.tap_strides[tap]
            size = (-(-129 // stride), -(-257 // stride))
            assert feature.shape == (2, model.tap_channels[tap], *size), tap

    @pytest.mark.parametrize("size", [(32, 32), (33, 47), (61, 100)])
    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("name", ["tiny", "resnet18", LITE0])
    def test_odd_sizes_train_with_one_image(self, name, norm, size):
        model = small_model(name, norm=norm).train()
        output = model(torch.randn(1, 3, *size))
        assert output.logits.shape == (1, 19, *size)
        output.logits.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_logits_are_the_upsampled_classifier(self, align_corners):
        model = small_model(align_corners=align_corners).eval()
        images = torch.randn(1, 3, 40, 56)
        output = model(images)
        low = F.conv2d(output.features["decoder"], model.classifier.weight, model.classifier.bias)
        expected = F.interpolate(low, (40, 56), mode="bilinear", align_corners=align_corners)
        torch.testing.assert_close(output.logits, expected)
        assert model.classifier.bias is not None

    def test_evaluation_treats_images_apart(self):
        model = small_model("resnet18")
        randomise_norms(model)
        model.eval()
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(model(images).logits[1:], model(images[1:]).logits)

    def test_parameters_are_split_into_backbone_and_head(self):
        model = small_model()
        backbone, head = list(model.backbone_parameters()), list(model.head_parameters())
        assert {id(p) for p in backbone} == {id(p) for p in model.encoder.parameters()}
        assert {id(p) for p in backbone + head} == {id(p) for p in model.parameters()}
        assert len(backbone) + len(head) == len(list(model.parameters()))

    def test_normalise_is_the_formula(self):
        model = small_model()
        images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
        mean, std = torch.tensor(model.mean), torch.tensor(model.std)
        expected = (images / 255 - mean[:, None, None]) / std[:, None, None]
        assert model.normalise(images).dtype == torch.float32
        torch.testing.assert_close(model.normalise(images), expected)

    def test_channels_last_stays_so_and_changes_nothing(self):
        model = small_model("resnet18").eval()
        images = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            expected = model(images)
            model = model.to(memory_format=torch.channels_last)
            got = model(images.contiguous(memory_format=torch.channels_last))
        for tap in ("layer4", "aspp", "decoder"):
            assert got.features[tap].is_contiguous(memory_format=torch.channels_last), tap
        torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)

    def test_taps_survive_the_forward(self):
        """No later layer writes into a tap: recomputing the head from the taps gives the same."""
        model = small_model("resnet18").eval()
        output = model(torch.randn(1, 3, 64, 64))
        taps = model.encoder(torch.randn(1, 3, 64, 64))
        copies = {tap: value.clone() for tap, value in taps.items()}
        model.decoder(model.aspp(taps["layer4"]), taps["layer1"])
        assert all(torch.equal(taps[tap], copies[tap]) for tap in TAPS)
        aspp = model.aspp(output.features["layer4"])
        torch.testing.assert_close(aspp, output.features["aspp"])

    def test_the_seed_decides_the_weights(self):
        first, second = small_model().state_dict(), small_model().state_dict()
        torch.manual_seed(1)
        other = build_model(small_config()).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not torch.equal(first["classifier.weight"], other["classifier.weight"])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"backbone": "resnet9000"}, r"backbone: got 'resnet9000'.*resnet101.*tiny"),
            ({"output_stride": 4}, r"output_stride: got 4, .*have \[8, 16, 32\]"),
            ({"norm": "layer"}, r"norm: got 'layer', .*have \['batch', 'group', 'none'\]"),
            ({"dropout": 1.0}, "dropout: got 1.0"),
            ({"aspp_dilations": ()}, "aspp_dilations: got"),
            ({"aspp_dilations": (0, 1)}, "aspp_dilations: got"),
            ({"num_classes": 0}, "num_classes: got 0"),
        ],
    )
    def test_bad_configs_are_one_line_user_errors(self, changes, message):
        with pytest.raises(UserError, match=message) as caught:
            ModelConfig(**changes)
        assert "\n" not in str(caught.value)


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
