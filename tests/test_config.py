"""The config: its digest names the experiment and nothing else; its file; its batch per worker."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from tests.tiny import tiny_config
from uda.config import Config, OptimConfig, RuntimeConfig, TeacherConfig
from uda.losses.adversarial import Level
from uda.losses.supervised import Supervised
from uda.tree import override, to_plain
from uda.types import UserError


def leaves(plain: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in a plain tree that has nothing inside."""
    if isinstance(plain, dict):
        for name, item in plain.items():
            yield from leaves(item, f"{path}.{name}" if path else name)
    else:
        yield path, plain


LEAVES = dict(leaves(to_plain(tiny_config("everything"))))
TERMS = dict(leaves(to_plain(tiny_config("all_terms"))["losses"], "losses"))

# Another valid value where adding to the present one is not enough.
OTHER = {
    "augment.masked.blur_sigma_px": [0.2, 1.0],
    "augment.mixed.blur_sigma_px": [0.2, 1.0],
    "augment.source.blur_sigma_px": [0.2, 1.0],
    "augment.masked.noise_sigma": [0.02, 0.1],
    "augment.mixed.noise_sigma": [0.02, 0.1],
    "augment.source.noise_sigma": [0.02, 0.1],
    "data.crop.scale": [0.5, 2.0],
    "data.source_sampling.kind": "rare_class",
    "data.source_sampling.predictions": {
        "data.source_sampling.kind": "matched",
        "data.source_sampling.predictions": "seen.parquet",
    },
    "evaluated": "teacher",
    "ingest.decode": "cluster",
    "ingest.mode": "streaming",
    "ingest.on_bad_row": "skip",
    "levels.output.conditional": {
        "levels.output.reads": "aspp",
        "levels.output.sees": "plain",
        "levels.output.conditional": True,
    },
    "levels.output.objective": "least_squares",
    "levels.output.reads": {"levels.output.reads": "aspp", "levels.output.sees": "plain"},
    "levels.output.sees": "self_information",
    "losses.contrastive.grid": [1, 2],
    "losses.contrastive.objective": "regression",
    "losses.contrastive.pooling": "mean",
    "losses.affinity.dilations": [1, 2, 4],
    "losses.contrastive.power": 0.25,
    "losses.prior.decay": 0.9,
    "losses.contrastive.similarity": "jaccard",
    "model.align_corners": True,
    "model.aspp_dilations": [1, 2, 3],
    "model.backbone": "resnet18",
    "model.norm": "batch",
    "model.output_stride": 8,
    "model.pretrained": "package",
    "name": "another",
    "optim.decay": "cosine",
    "projection.reads": "layer4",
    "runtime.precision": "bfloat16",
    "teacher.batch_norm": "running",
    "runtime.on_stall": {
        "runtime.select_by": "quality",
        "runtime.patience": 3,
        "runtime.on_stall": "fade",
    },
    "runtime.patience": {"runtime.select_by": "quality", "runtime.patience": 3},
    "runtime.select_by": "quality",
    "teacher.weighting": "pixel",
}


def method_with(path: str) -> str:
    return "everything" if path in LEAVES else "all_terms"


def changed(path: str) -> Config:
    """The tiny config with another value at `path`."""
    config, value = tiny_config(method_with(path)), (LEAVES | TERMS)[path]
    if path in OTHER:
        other = OTHER[path]
        return override(config, other if isinstance(other, dict) else {path: other})
    if path.endswith(".weight.decay"):
        stop = path.removesuffix("decay") + "stop"
        return override(config, {stop: 7, path: "linear"})
    if isinstance(value, bool):
        return override(config, {path: not value})
    return override(config, {path: value + (1 if isinstance(value, int) else 0.01)})


# The number of classes is that of the labels, so there is no other value to give it.
@pytest.mark.parametrize("path", sorted({*LEAVES, *TERMS} - {"model.num_classes"}))
def test_digest_changes_with_everything_but_how_it_is_computed(path):
    config, other = tiny_config(method_with(path)), changed(path)
    assert other != config, "the test must change something"
    assert (other.digest() == config.digest()) == path.startswith(("runtime.", "ingest."))


def test_there_is_something_to_change():
    assert len(LEAVES) > 60
    assert OTHER.keys() <= LEAVES.keys() | TERMS.keys()


def test_digest_is_twelve_hex_digits_and_does_not_change():
    digest = tiny_config().digest()
    assert len(digest) == 12
    assert int(digest, 16) >= 0
    assert tiny_config().digest() == digest


def test_digest_survives_the_file(tmp_path):
    config = tiny_config("everything")
    (tmp_path / "config.json").write_text(config.to_json())
    loaded = Config.from_json(tmp_path / "config.json")
    assert loaded == config
    assert loaded.digest() == config.digest()


def test_digest_of_a_preset_that_writes_a_whole_number_for_a_float(tmp_path):
    """A run of such a preset must still recognise its own checkpoint."""
    config = tiny_config("source_only")
    expected = override(config, {"optim.head_factor": 10}).digest()
    object.__setattr__(config.optim, "head_factor", 10)  # our tests would refuse it when built
    (tmp_path / "config.json").write_text(config.to_json())
    assert Config.from_json(tmp_path / "config.json").digest() == expected
    assert config.digest() == expected


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 12])
def test_local_batches_make_up_the_global_one(workers):
    config = override(tiny_config(), {"batch_size": 12})
    assert config.local_batch_size(workers) * workers == 12


@pytest.mark.parametrize("workers", [0, -1, 5, 24])
def test_workers_that_do_not_divide_the_batch_are_told_which_do(workers):
    config = override(tiny_config(), {"batch_size": 12})
    with pytest.raises(UserError, match=f"got {workers}, .*have 1, 2, 3, 4, 6, 12$"):
        config.local_batch_size(workers)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "want Config"),
        ("{}", "missing"),
        ('{"nme": 1}', "no 'nme'"),
    ],
)
def test_a_bad_file_is_one_line_with_its_path(tmp_path, text, reason):
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        Config.from_json(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_binary_file_is_refused(tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        Config.from_json(file)


def test_names_within_losses_and_levels_are_unique():
    config = tiny_config("source_only")
    with pytest.raises(ValueError, match="losses: got supervised, supervised, want each name once"):
        dataclasses.replace(config, losses=(Supervised(), Supervised()))
    with pytest.raises(ValueError, match="levels: got a, a, want each name once"):
        dataclasses.replace(config, levels=(Level(name="a"), Level(name="a")))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (TeacherConfig, {"decay": -0.1}),
        (TeacherConfig, {"threshold": 1.1}),
        (OptimConfig, {"lr": 0.0}),
        (OptimConfig, {"lr": float("nan")}),
        (OptimConfig, {"discriminator_lr": -1.0}),
        (OptimConfig, {"clip_norm": -1.0}),
        (RuntimeConfig, {"checkpoint_every": 0}),
        (RuntimeConfig, {"decode_threads": -1}),
    ],
)
def test_out_of_range_is_refused_when_built_directly(kind, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        kind(**settings)


def test_a_level_is_not_named_like_a_loss():
    """Their figures of health would have one name."""
    config = tiny_config("source_only")
    with pytest.raises(ValueError, match=r"^levels: got entropy, want names that no loss has"):
        dataclasses.replace(config, levels=(Level(name="a"), Level(name="entropy")))


def test_number_of_classes_is_that_of_the_labels():
    with pytest.raises(UserError, match=r"model\.num_classes: got 5, want the labels' 19"):
        override(tiny_config("everything"), {"model.num_classes": 5})
