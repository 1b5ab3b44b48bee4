"""Evaluation over rows, of networks and of files, alone and by a pool of Ray actors."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.edited_shards import edit_shards, with_column
from tests.small_models import small_model
from uda.classes import CLASS_LISTS, IGNORE, LABEL_IDS, PALETTE
from uda.data.examples import open_examples
from uda.data.prepare import prepare
from uda.evaluate import Scored, evaluate_images, evaluate_predictions, total
from uda.inference import Inference
from uda.label_maps import prediction_files, read_prediction
from uda.metrics import Confusion
from uda.tally import Tally
from uda.types import Truth, UserError, WorkError

NUM_SAMPLES = 10


class Memory:
    """Examples kept in lists, of several sizes."""

    class_list, path = "cityscapes19", "memory"

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.pairs = pairs
        self.keys = [f"town_{index:06d}" for index in range(len(pairs))]
        self.seen: list[int] = []

    def __len__(self) -> int:
        return len(self.pairs)

    def pair(self, index: int) -> tuple[np.ndarray, Truth]:
        self.seen.append(index)
        return self.pairs[index][0], self.truth(index)

    def truth(self, index: int) -> Truth:
        return Truth(label=self.pairs[index][1])


def random_pair(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours of the palette, so that a network can read the label from the image."""
    random = np.random.default_rng(index)
    height, width = 32 + 8 * (index // 2 % 2), 48
    blocks = random.integers(0, 19, (height // 8, width // 8)).astype(np.uint8)
    label = np.kron(blocks, np.ones((8, 8), np.uint8))
    image = PALETTE[label]
    label[:3] = IGNORE
    return image, label


class PaletteReader(nn.Module):
    """Knows the colours: the nearest one of the palette has the largest logit."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Parameter(torch.from_numpy(PALETTE[:19]).float())

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return images.float()

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        distance = torch.cdist(images.permute(0, 2, 3, 1), self.colors)
        return SimpleNamespace(logits=-distance.permute(0, 3, 1, 2))


@pytest.fixture
def memory() -> Memory:
    return Memory([random_pair(index) for index in range(5)])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "shards"
    options = {"size": (48, 32), "codec": "exact", "count": NUM_SAMPLES, "rows_per_shard": 4}
    prepare("streets", "camera", folder, "val", progress=False, **options)
    return folder


def same(first: Confusion, second: Confusion) -> bool:
    equal = np.array_equal(first.matrix, second.matrix)
    return equal and np.array_equal(first.outside, second.outside)


def counted(results: Iterator[Scored]) -> Confusion:
    return total(results).confusion


def test_a_network_that_knows_scores_one(memory):
    confusion = counted(evaluate_images(PaletteReader().eval(), memory, range(5)))
    assert confusion.miou(CLASS_LISTS["cityscapes19"]) == 1
    sizes = [label.size for _, label in memory.pairs]
    assert confusion.num_pixels == sum(sizes) - 5 * 3 * 48, "three ignored lines each"
    assert memory.seen == [0, 1, 2, 3, 4], "each image once, in order"


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"scales": (1.0, 0.5), "flip": True}, {"window": (24, 24)}, {"protocol": "segmentron"}],
)
def test_parts_sum_to_the_whole(memory, threads, options):
    model, inference = small_model().eval(), Inference(**options)
    whole = total(evaluate_images(model, memory, range(5), inference))
    parts = [
        total(evaluate_images(model, memory, part, inference, threads=threads))
        for part in ([3], [4, 0], [2, 1])
    ]
    summed = sum(parts, Tally())
    assert same(whole.confusion, summed.confusion)
    assert (whole.images, whole.truncated_hits) == (summed.images, summed.truncated_hits)
    assert whole.has_truncated == (inference.protocol == "segmentron")
    assert same(counted(evaluate_images(model, memory, [], inference)), Confusion.empty())


@pytest.mark.parametrize("batch_size", [2, 3, 8])
@pytest.mark.parametrize("threads", [0, 2])
def test_batches_of_one_size_change_nothing(memory, batch_size, threads):
    """Images 0, 1 and 4 have another size than 2 and 3: batches end where the size changes."""
    shapes = []
    model = PaletteReader().eval()
    model.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    inference = Inference(batch_size=batch_size)
    results = list(evaluate_images(model, memory, range(5), inference, threads=threads))
    assert [scored.index for scored in results] == [0, 1, 2, 3, 4]
    large = [1, 1] if batch_size == 3 else [2]  # a batch of three ends behind image 2
    assert shapes == [(2, 3, 32, 48), *((n, 3, 40, 48) for n in large), (1, 3, 32, 48)]
    for scored, (_, label) in zip(results, memory.pairs, strict=True):
        assert same(scored.tally.confusion, Confusion.of(label, label)), "its own truth"


@pytest.mark.parametrize(
    "parts", [[range(8)], [range(4), range(4, 8)], [[0, 1, 2, 3], [4, 5], [6, 7]]]
)
def test_parts_make_the_same_batches(parts):
    """Whatever their sizes: two small images, then six large ones, four at a time."""
    pairs = [random_pair(index) for index in (0, 1, 2, 3, 2, 3, 2, 3)]
    shapes, model = [], PaletteReader().eval()
    model.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape[:3])))
    for part in parts:
        list(evaluate_images(model, Memory(pairs), part, Inference(batch_size=4)))
    whole = [(2, 3, 32), (2, 3, 40), (4, 3, 40)]
    assert shapes == (whole if len(parts) < 3 else [*whole[:2], (2, 3, 40), (2, 3, 40)])


def test_scattered_images_do_not_pile_up():
    pairs = [random_pair(0)] * 40
    sizes, model = [], PaletteReader().eval()
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    list(evaluate_images(model, Memory(pairs), range(0, 40, 4), Inference(batch_size=4)))
    assert sizes == [4, 4, 2]


def test_missing_label_is_named(tmp_path, shards):
    folder = shutil.copytree(shards, tmp_path / "edited")
    edit_shards(folder, lambda table: with_column(table, "label", [None] * len(table)))
    with pytest.raises(UserError, match=r"row 0: .* has no label, want labelled data here"):
        list(evaluate_images(PaletteReader().eval(), open_examples(folder), range(5), threads=1))


def write_predictions(folder: Path, examples, ids: str) -> dict[str, np.ndarray]:
    """Noisy copies of the labels as another program would write them; trainIds by key."""
    table = np.full(256, 255 if ids == "trainids" else 4, np.uint8)  # 4: "static", ignored
    table[:19] = range(19) if ids == "trainids" else LABEL_IDS
    (folder / "town").mkdir(parents=True)
    written = {}
    for index, key in enumerate(examples.keys):
        label = examples.truth(index).label
        random = np.random.default_rng(index)
        noise = random.choice(np.array([*range(19), IGNORE], np.uint8), label.shape)
        predicted = np.where(random.random(label.shape) < 0.6, label, noise)
        picture = Image.fromarray(table[predicted])
        if index % 2:
            picture = picture.convert("P")
            picture.putpalette(PALETTE.ravel().tolist())
        picture.save(folder / "town" / f"{key}{'_pred' if index else ''}.png")
        written[key] = predicted
    return written


@pytest.mark.parametrize("ids", ["labelids", "trainids"])
def test_predictions_of_another_program(memory, tmp_path, ids):
    written = write_predictions(tmp_path / "results", memory, ids)
    files = prediction_files(tmp_path / "results", memory.keys)
    expected = Confusion.empty()
    for index, key in enumerate(memory.keys):
        expected += Confusion.of(written[key], memory.truth(index).label)
    assert expected.outside.any()
    assert same(counted(evaluate_predictions(files, memory, range(5), ids=ids)), expected)
    assert memory.seen == [], "no image is read"


def test_prediction_files_by_name(tmp_path):
    for name in ("a_1.png", "sub/a_1_2.png", "a_10_color.png", "b_pred.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = prediction_files(tmp_path, ["a_1", "val/a_1_2", "a_10"])
    names = [str(path.relative_to(tmp_path)) for path in found.values()]
    assert names == ["a_1.png", "sub/a_1_2.png", "a_10_color.png"]
    with pytest.raises(UserError, match=r"got no file in .* for b, want one b.png or b_\*.png"):
        prediction_files(tmp_path, ["b"])
    (tmp_path / "a_10_ids.png").touch()
    with pytest.raises(UserError, match=r"got a_10_color\.png, a_10_ids\.png in"):
        prediction_files(tmp_path, ["a_10"])
    with pytest.raises(UserError, match="want a folder"):
        prediction_files(tmp_path / "nowhere", ["a"])


def test_missing_prediction_is_named(memory):
    with pytest.raises(UserError, match="no PNG for town_000000"):
        list(evaluate_predictions({}, memory, [0]))


@pytest.mark.parametrize(
    ("values", "ids", "message"),
    [
        (np.full((4, 6), 255, np.uint8), "labelids", "label id 255, want 0..33"),
        (np.full((4, 6), 26, np.uint8), "trainids", "trainId 26, want 0..18 or 255"),
        (np.zeros((4, 5), np.uint8), "labelids", "got 5x4 pixels, want 6x4"),
        (np.zeros((4, 6, 3), np.uint8), "labelids", "RGB"),
        (np.zeros((4, 6), np.uint8), "colors", "ids: got 'colors', have labelids, trainids"),
    ],
)
def test_wrong_prediction_is_refused(tmp_path, values, ids, message):
    Image.fromarray(values).save(tmp_path / "x.png")
    with pytest.raises(UserError, match=message):
        read_prediction(tmp_path / "x.png", ids, (4, 6))


def load_small(path: str) -> nn.Module:
    """Stands for `load_model`; the path does not matter."""
    return small_model().eval()


@pytest.fixture(scope="module")
def expected(shards: Path) -> Confusion:
    """What one process counts."""
    examples = open_examples(shards)
    return counted(evaluate_images(small_model().eval(), examples, range(NUM_SAMPLES)))


@pytest.fixture
def pool_evaluate(ray_local: None) -> Iterator:
    """`cluster.evaluate.evaluate`; imports Ray only where Ray is tested."""
    from cluster.evaluate import evaluate

    return evaluate


def assert_report(report, expected: Confusion) -> None:
    result = report.json()
    assert result["confusion"] == expected.matrix.tolist()
    assert result["miou"] == expected.miou(CLASS_LISTS["cityscapes19"])
    assert result["images"] == NUM_SAMPLES
    assert report.scores == {}


@pytest.mark.ray
def test_two_actors_count_what_one_process_counts(pool_evaluate, shards, expected, capfd):
    report = pool_evaluate("ckpt", shards, actors=2, load=load_small)
    assert_report(report, expected)
    assert (report.checkpoint, report.data) == ("ckpt", str(shards))
    streams = capfd.readouterr()
    assert "10/10" in streams.err, "progress is shown on stderr"
    assert "10/10" not in streams.out


@pytest.mark.ray
def test_batches_reach_the_network_in_actors(pool_evaluate, shards, expected, tmp_path):
    def load_noting(path: str) -> nn.Module:
        model = small_model().eval()

        def note(_: nn.Module, inputs: tuple) -> None:
            with (tmp_path / "sizes").open("a") as file:
                file.write(f"{len(inputs[0])}\n")

        model.register_forward_pre_hook(note)
        return model

    inference = Inference(batch_size=4)
    report = pool_evaluate("c", shards, inference, actors=2, load=load_noting, progress=False)
    sizes = sorted(map(int, (tmp_path / "sizes").read_text().split()))
    assert sizes == [2, 4, 4], "ten images, four at a time"
    assert_report(report, expected)


@pytest.mark.ray
@pytest.mark.parametrize("actors", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_actor_changes_nothing(pool_evaluate, shards, expected, tmp_path, actors):
    flag = tmp_path / "killed"

    def load_mortal(path: str) -> nn.Module:
        model, calls = small_model().eval(), []

        def die_once(*_: object) -> None:
            calls.append(1)
            if len(calls) == 2 and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        model.register_forward_pre_hook(die_once)
        return model

    report = pool_evaluate("ckpt", shards, actors=actors, load=load_mortal, progress=False)
    assert flag.exists()
    assert_report(report, expected)


@pytest.mark.ray
@pytest.mark.slow
def test_network_that_kills_every_actor_ends_the_evaluation(pool_evaluate, shards):
    def load_deadly(path: str) -> nn.Module:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with pytest.raises(WorkError, match="loading the network ended 3 actors"):
        pool_evaluate("ckpt", shards, actors=1, load=load_deadly, progress=False)


@pytest.mark.ray
def test_mistakes_come_as_one_line(pool_evaluate, shards, tmp_path):
    with pytest.raises(UserError, match="nowhere") as caught:  # raised in an actor
        pool_evaluate(tmp_path / "nowhere", shards, actors=1, progress=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such folder"):
        pool_evaluate("ckpt", tmp_path / "nothing", load=load_small)
    with pytest.raises(UserError, match="actors: got 0"):
        pool_evaluate("ckpt", shards, actors=0, load=load_small)
    with pytest.raises(UserError, match="without GPU"):
        pool_evaluate("ckpt", shards, gpus_per_actor=0.5, load=load_small)


@pytest.mark.ray
def test_pool_scores_predictions(ray_local, shards, tmp_path):
    from cluster.evaluate import evaluate_predictions as pool_predictions

    examples = open_examples(shards)
    write_predictions(tmp_path / "results", examples, "trainids")
    files = prediction_files(tmp_path / "results", examples.keys)
    expected = counted(evaluate_predictions(files, examples, range(NUM_SAMPLES), ids="trainids"))
    report = pool_predictions(
        tmp_path / "results", shards, ids="trainids", actors=1, progress=False
    )
    assert_report(report, expected)
    assert report.json()["confusion_outside"] == expected.outside.tolist()


@pytest.mark.ray
@pytest.mark.parametrize(("samples", "actors"), [(0, 1), (1, 4), (10, 2), (500, 3), (5000, 8)])
def test_chunks_cover_every_sample_once(samples, actors):
    from cluster.pool import chunks_of

    chunks = chunks_of(samples, actors, 16)
    assert [index for chunk in chunks for index in chunk] == list(range(samples))
    assert all(1 <= len(chunk) <= 16 for chunk in chunks)
