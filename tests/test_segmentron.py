"""SegmenTron's checkpoint is its network to the last bit, and nothing else passes for one."""

import hashlib
import io
import json
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

import uda
from tests.segmentron_weights import (
    STEP_PX,
    golden_input,
    golden_keys,
    golden_logits,
    golden_state,
)
from uda.checkpoint import load_model
from uda.convert import convert_segmentron
from uda.models import DeepLabV3Plus, ModelConfig, build_model, load_pretrained
from uda.models.pretrained import read_state_dict
from uda.models.segmentron import (
    SEGMENTRON,
    from_segmentron,
    load_segmentron,
    network_of,
    segmentron_config,
    to_segmentron,
)
from uda.types import UserError

# Each test is quick, but they are many and all build 190 MB of weights.
pytestmark = pytest.mark.slow

SHARED = Path(__file__).parent.parent.parent / "shared" / "golden" / "segmentron"
FC = {"encoder.fc.weight", "encoder.fc.bias"}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return golden_state()


@pytest.fixture(scope="module")
def file(state, tmp_path_factory) -> Path:
    """As the released files: an ordered dict of CUDA tensors in the format of before 2020."""
    path = tmp_path_factory.mktemp("segmentron") / "best_model.pth"
    save(OrderedDict(state), path, zipped=False, on_cuda=True)
    return path


def save(content: Any, path: Path, *, zipped: bool, on_cuda: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if on_cuda:
            patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert (b"cuda:0" in path.read_bytes()) == on_cuda
    assert (path.read_bytes()[:2] == b"PK") == zipped


def largest_difference(model: nn.Module, dtype: torch.dtype, expected: Tensor, step: int) -> float:
    model = model.to(dtype)
    with torch.no_grad():
        logits = model(golden_input().to(dtype)).logits
    return float((logits[..., ::step, ::step].double() - expected).abs().max())


def one_line(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


class TestNetwork:
    @pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
    @pytest.mark.parametrize("output_stride", [16, 8])
    def test_logits_are_those_of_segmentron(self, state, output_stride, dtype, allowed):
        model = network_of(state, "golden", segmentron_config(output_stride)).eval()
        expected = golden_logits(output_stride)
        assert expected.abs().max() > 5
        assert largest_difference(model, dtype, expected, STEP_PX) < allowed

    @pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/golden/segmentron")
    def test_every_pixel_of_the_whole_golden_output(self, state):
        assert np.array_equal(np.load(SHARED / "input.npy"), golden_input().numpy())
        whole = torch.from_numpy(np.load(SHARED / "logits_float64.npz")["logits"])
        assert torch.equal(whole[..., ::STEP_PX, ::STEP_PX], golden_logits(16))
        model = network_of(state, "golden", SEGMENTRON).eval()
        assert largest_difference(model, torch.float32, whole, 1) < 1e-4
        assert largest_difference(model, torch.float64, whole, 1) < 1e-9

    def test_keys_and_shapes_of_an_export_are_the_programs(self):
        with torch.device("meta"):
            exported = to_segmentron(build_model(SEGMENTRON).state_dict())
        wanted = golden_keys()
        assert len(wanted) == 712
        assert exported.keys() == wanted.keys() - FC
        for key, value in exported.items():
            shape, dtype = wanted[key]
            assert (tuple(value.shape), str(value.dtype)) == (shape, f"torch.{dtype}"), key

    def test_names_there_and_back(self):
        with torch.device("meta"):
            ours = build_model(SEGMENTRON).state_dict()
        theirs = to_segmentron(ours)
        assert len(theirs) == len(ours)
        back = from_segmentron(theirs)
        assert list(back) == list(ours)
        assert all(back[key] is ours[key] for key in ours)

    def test_loading_draws_no_random_numbers(self, state):
        before = torch.get_rng_state()
        network_of(state, "golden", SEGMENTRON)
        assert torch.equal(torch.get_rng_state(), before)

    def test_our_defaults_are_its_network_but_for_the_corners(self):
        assert ModelConfig(align_corners=True) == SEGMENTRON

    @pytest.mark.parametrize("output_stride", [32, 4, 0])
    def test_output_strides_where_the_programs_differ(self, output_stride):
        message = one_line(lambda: segmentron_config(output_stride))
        assert message == f"output_stride: got {output_stride}, want one of [16, 8]"


class TestMisfits:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"head.aspp.bn.weight": None}, "1 missing (head.aspp.bn.weight)"),
            ({"head.block.2.weight": None}, "1 missing (head.block.2.weight)"),
            (
                {"encoder.bn1.num_batches_tracked": None},
                "1 missing (encoder.bn1.num_batches_tracked)",
            ),
            ({"auxlayer.block.0.weight": (3,)}, "1 unexpected (auxlayer.block.0.weight)"),
            ({"encoder.fc2.weight": (3,)}, "1 unexpected (encoder.fc2.weight)"),
            ({"aspp.project.norm.bias": (256,)}, "1 unexpected (aspp.project.norm.bias)"),
            (
                {"head.c1_block.conv.weight": (24, 256, 1, 1)},
                "1 wrong shape (head.c1_block.conv.weight (24, 256, 1, 1) instead of "
                "(48, 256, 1, 1))",
            ),
            (
                {"head.block.2.weight": (19,)},
                "head.block.2.weight (19,) instead of (19, 256, 1, 1)",
            ),
            ({"head.block.2.weight": ()}, "head.block.2.weight () instead of (19, 256, 1, 1)"),
        ],
    )
    def test_names_the_keys_as_they_are_in_the_file(self, state, changes, message):
        changed = dict(state)
        for key, shape in changes.items():
            changed.pop(key, None)
            if shape is not None:
                changed[key] = torch.zeros(shape)
        got = one_line(lambda: network_of(changed, "some.pth", SEGMENTRON))
        assert got.startswith("weights some.pth for SegmenTron's DeepLabV3+ with ResNet-101: ")
        assert message in got

    def test_only_the_imagenet_classifier_may_be_absent(self, state):
        without = {key: value for key, value in state.items() if key not in FC}
        assert isinstance(network_of(without, "some.pth", SEGMENTRON), DeepLabV3Plus)

    def test_another_network_of_the_program(self, state):
        """Its ResNet with the deep stem: convolutions 0, 3 and 6 in place of the first."""
        deep = {k.replace("encoder.conv1.", "encoder.conv1.0."): v for k, v in state.items()}
        got = one_line(lambda: network_of(deep, "some.pth", SEGMENTRON))
        assert "1 missing (encoder.conv1.weight); 1 unexpected (encoder.conv1.0.weight)" in got

    @pytest.mark.parametrize("num_classes", [1, 18, 20, 150])
    def test_another_number_of_classes(self, state, num_classes):
        changed = state | {
            "head.block.2.weight": torch.zeros(num_classes, 256, 1, 1),
            "head.block.2.bias": torch.zeros(num_classes),
        }
        got = one_line(lambda: network_of(changed, "some.pth", SEGMENTRON))
        assert got == (
            f"weights some.pth: got {num_classes} classes (head.block.2.weight), "
            "want Cityscapes' 19"
        )

    def test_not_finite(self, state):
        changed = state | {"head.block.2.bias": torch.full((19,), float("inf"))}
        assert "not finite" in one_line(lambda: network_of(changed, "some.pth", SEGMENTRON))

    def test_a_state_dict_of_another_program(self, tmp_path):
        torch.save({"backbone.conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
        got = one_line(lambda: load_model(tmp_path / "other.pth"))
        assert "not SegmenTron's (keys such as 'backbone.conv1.weight'); want a state dict" in got


class TestFiles:
    """Reading is tried on small files, and once on a file of full size."""

    def test_load_model_takes_the_file(self, file, state):
        for path in (file, str(file)):
            model = load_model(path)
            assert not model.training
            assert not any(tensor.is_cuda for tensor in model.state_dict().values())
            loaded = to_segmentron(model.state_dict())
            assert loaded.keys() == state.keys() - FC
            assert all(torch.equal(value, state[key]) for key, value in loaded.items())
        assert load_segmentron(file, output_stride=8).tap_strides["layer4"] == 8

    @pytest.mark.parametrize("on_cuda", [False, True])
    @pytest.mark.parametrize("zipped", [False, True])
    @pytest.mark.parametrize("name", ["best_model.pth", "40.pt", "weights.pkl", "weights"])
    def test_every_form(self, tmp_path, zipped, on_cuda, name):
        model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, 10)
        model(torch.randn(2, 2, 4, 4)).sum().backward()
        optimiser.step()
        expected = model.state_dict()
        whole = {
            "epoch": 40,
            "state_dict": expected,
            "optimizer": optimiser.state_dict(),
            "lr_scheduler": schedule.state_dict(),
        }
        for content in (expected, whole):
            save(content, tmp_path / name, zipped=zipped, on_cuda=on_cuda)
            loaded = read_state_dict(tmp_path / name)
            assert list(loaded) == list(expected)
            assert all(torch.equal(loaded[key], expected[key]) for key in expected)

    def test_safetensors(self, tmp_path):
        expected = {"encoder.a": torch.randn(3)}
        safetensors.torch.save_file(expected, tmp_path / "weights.safetensors")
        loaded = read_state_dict(tmp_path / "weights.safetensors")
        assert torch.equal(loaded["encoder.a"], expected["encoder.a"])


def small_file(*, zipped: bool) -> bytes:
    stream = io.BytesIO()
    content = OrderedDict({"encoder.a": torch.arange(9.0), "head.b": torch.zeros(2, 3)})
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 20)).save(stream, "PNG")
    return stream.getvalue()


def torchscript() -> bytes:
    """What torch takes for TorchScript, with a warning."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version"):
            archive.writestr(f"archive/{name}", "3")
    return stream.getvalue()


GARBAGE: dict[str, Callable[[], bytes]] = {
    "empty": bytes,
    "text": lambda: b"hello world\n" * 30,
    "json": lambda: b'{"encoder.a": 1}',
    "zeros": lambda: bytes(2000),
    "png": png,
    "truncated zip": lambda: small_file(zipped=True)[:-40],
    "half a zip": lambda: small_file(zipped=True)[:700],
    "truncated pickle": lambda: small_file(zipped=False)[:-20],
    "half a pickle": lambda: small_file(zipped=False)[:300],
    "start of a pickle": lambda: small_file(zipped=False)[:19],
    "pickled list": lambda: pickle.dumps([1, 2]),
    "old pickled list": lambda: pickle.dumps([1, 2], protocol=0),
    "pickle of protocol 2": lambda: pickle.dumps({"encoder.a": 1}, protocol=2),
    "torchscript": torchscript,
}


class TestGarbage:
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize("kind", GARBAGE)
    def test_is_one_line_and_no_warning(self, tmp_path, kind, suffix):
        file = tmp_path / f"best_model{suffix}"
        file.write_bytes(GARBAGE[kind]())
        got = one_line(lambda: load_model(file))
        assert got.startswith(f"weights {file}: no readable state dict (")
        assert "weights_only" not in got  # torch advises to run the file's code

    def test_missing_file(self, tmp_path):
        assert "No such file" in one_line(lambda: read_state_dict(tmp_path / "nowhere.pth"))
        assert "no such folder or file" in one_line(lambda: load_model(tmp_path / "nowhere.pth"))

    @pytest.mark.parametrize("zipped", [False, True])
    def test_no_damage_gets_through_as_another_error(self, tmp_path, zipped):
        file, whole = tmp_path / "damaged.pth", small_file(zipped=zipped)
        draws = random.Random(0)
        messages = []
        for _ in range(300):
            content = bytearray(whole[: draws.choice((len(whole), draws.randrange(len(whole))))])
            for _ in range(draws.randrange(4) if content else 0):
                content[draws.randrange(min(len(content), 900))] = draws.randrange(256)
            file.write_bytes(content)
            try:
                read_state_dict(file)
            except UserError as error:
                messages.append(str(error))
        assert len(messages) > 100
        assert not any("\n" in message for message in messages)

    @pytest.mark.parametrize("wrapped", [False, True])
    @pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "pickle 0"])
    def test_code_does_not_run(self, tmp_path, how, wrapped):
        target, file = tmp_path / "owned", tmp_path / "best_model.pth"

        class Payload:
            def __reduce__(self):
                return os.mkdir, (str(target),)

        pickle.loads(pickle.dumps(Payload()))  # the payload works where code may run
        assert target.is_dir()
        target.rmdir()
        content = {"head.b": Payload(), "encoder.a": torch.zeros(1)}
        content = {"state_dict": content} if wrapped else content
        if how.startswith("pickle"):
            protocol = 0 if how.endswith("0") else pickle.DEFAULT_PROTOCOL
            file.write_bytes(pickle.dumps(content, protocol=protocol))
        else:
            torch.save(content, file, _use_new_zipfile_serialization=how == "zip")
        got = one_line(lambda: load_model(file))
        assert not target.exists()
        assert "no readable state dict" in got
        if how in ("zip", "legacy"):
            assert ".mkdir', which is neither a tensor nor plain data and was not run" in got


@pytest.fixture(scope="module")
def out(file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "below" / "city"
    convert_segmentron(file, folder)
    return folder


class TestConvert:
    def test_is_the_same_network(self, out, file, state):
        model = load_model(out)
        assert not model.training
        loaded = to_segmentron(model.state_dict())
        assert loaded.keys() == state.keys() - FC
        assert all(torch.equal(value, state[key]) for key, value in loaded.items())
        assert model.align_corners

    def test_files_say_what_it_is_and_where_it_comes_from(self, out, file):
        assert sorted(path.name for path in out.iterdir()) == [
            "config.json", "model.safetensors", "report.json"
        ]  # fmt: skip
        assert [path.name for path in out.parent.iterdir()] == ["city"]
        config = json.loads((out / "config.json").read_text())
        assert config.keys() == {"name", "model"}
        assert config["model"]["backbone"] == "resnet101"
        assert config["model"]["output_stride"] == 16
        report = json.loads((out / "report.json").read_text())
        assert report["source"] == {
            "program": "SegmenTron",
            "file": "best_model.pth",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "num_tensors": 712,
            "left_out": ["encoder.fc.bias", "encoder.fc.weight"],
        }
        assert report["versions"]["uda"] == uda.__version__
        assert report["versions"]["torch"] == torch.__version__

    def test_training_starts_from_it(self, out, state):
        with torch.device("meta"):
            model = build_model(ModelConfig(pretrained=str(out)))
        model.to_empty(device="cpu")
        load_pretrained(model, ModelConfig(pretrained=str(out)))
        loaded = to_segmentron(model.state_dict())
        assert all(torch.equal(value, state[key]) for key, value in loaded.items())

    def test_output_stride(self, file, tmp_path):
        convert_segmentron(file, tmp_path / "out", output_stride=8)
        model = load_model(tmp_path / "out")
        assert largest_difference(model, torch.float64, golden_logits(8), STEP_PX) < 1e-9

    def test_nothing_is_written_over(self, file, tmp_path):
        (tmp_path / "file").write_text("mine")
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to("nowhere")
        for name in ("file", "folder", "link"):
            got = one_line(lambda name=name: convert_segmentron(file, tmp_path / name))
            assert got == f"convert: got {tmp_path / name}, which exists; want a new folder"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link"]
        assert (tmp_path / "file").read_text() == "mine"
        assert not list((tmp_path / "folder").iterdir())

    def test_a_bad_source_leaves_nothing(self, tmp_path):
        (tmp_path / "noise.pth").write_bytes(b"noise" * 100)
        out = tmp_path / "new" / "out"
        assert "no readable" in one_line(lambda: convert_segmentron(tmp_path / "noise.pth", out))
        assert "No such file" in one_line(lambda: convert_segmentron(tmp_path / "nowhere", out))
        assert not out.parent.exists()

    def test_a_failed_write_leaves_nothing(self, file, state, tmp_path, monkeypatch):
        monkeypatch.setattr("uda.convert.read_segmentron", lambda _: state)

        def no_space(model: nn.Module, file: Path) -> None:
            file.write_bytes(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr("uda.convert.save_weights", no_space)
        with pytest.raises(OSError, match="No space left"):
            convert_segmentron(file, tmp_path / "out")
        assert not list(tmp_path.iterdir())
