"""The pure parts of `make bench-eval`: maps, cases, summaries, what the README says of them."""

import sys
import time

import numpy as np
import pytest
import torch

from tests.benchmarks.eval_parts import actors, maps
from tests.benchmarks.eval_parts.counting import quickest
from tests.benchmarks.eval_parts.forward import _summary
from tests.benchmarks.eval_parts.maps import Disturbance, Pairs, disturbed, instances_of
from tests.benchmarks.eval_parts.network import Case, ask_module, share_differing
from tests.small_models import small_model
from tests.studies._readme_eval import evaluation_part
from uda import inference
from uda.classes import LABEL_IDS
from uda.data.examples import open_examples
from uda.evaluate import evaluate_predictions, total
from uda.label_maps import prediction_files
from uda.types import Truth

ROAD, CAR, PERSON, SKY = 7, 26, 24, 23


def street(height: int = 256, width: int = 512) -> np.ndarray:
    """Sky above a road, two cars, and a bonnet without a class."""
    ids = np.full((height, width), ROAD, np.uint8)
    ids[: height // 2] = SKY
    ids[100:160, 50:150] = CAR
    ids[120:150, 300:340] = CAR
    ids[-20:] = 0
    return ids


def test_disturbed_follows_from_its_arguments():
    how, label = Disturbance(), street()
    first, again, other = (disturbed(label, how, np.random.default_rng(n)) for n in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.uint8
    assert first.shape == label.shape
    assert set(np.unique(first)) <= set(LABEL_IDS), "a network gives every pixel one of 19"
    assert 0.01 < np.mean(first[label != 0] != label[label != 0]) < 0.2


def test_undisturbed_is_the_label_with_road_where_nobody_labelled():
    nothing = Disturbance(shift_px=0, patches=0, single_share=0)
    label = street()
    predicted = disturbed(label, nothing, np.random.default_rng(0))
    assert np.array_equal(predicted, np.where(label == 0, ROAD, label))


def test_single_pixels_and_shifts_alone():
    label = street()
    single = Disturbance(shift_px=0, patches=0, single_share=0.01)
    differing = disturbed(label, single, np.random.default_rng(0)) != label
    assert 0.008 < differing[label != 0].mean() < 0.01, "one in nineteen hits its own class"
    shifts = Disturbance(patches=0, single_share=0)
    differing = disturbed(label, shifts, np.random.default_rng(0)) != label
    far = np.ones_like(differing)
    far[90:170, 40:350] = far[120:136] = far[-30:] = False
    assert differing[label != 0].any()
    assert not differing[far].any(), "only along boundaries"


def test_connected_regions_of_objects_are_instances():
    label = street()
    label[:8, :8] = PERSON
    instances = instances_of(label)
    found = np.unique(instances).tolist()
    assert found == [0, ROAD, SKY, 1000 * PERSON, 1000 * CAR, 1000 * CAR + 1]
    assert np.array_equal(instances >= 1000, np.isin(label, [PERSON, CAR]))


def test_pairs_are_two_data_sets_of_cityscapes(tmp_path, monkeypatch):
    train_ids = np.repeat(np.uint8([[10], [0], [13], [255]]), 64, axis=1).repeat(16, axis=0)
    monkeypatch.setattr(maps, "render", lambda *_: (None, train_ids))
    how = Disturbance()
    shares = [maps._write_pair(tmp_path, 64, 64, how, index) for index in range(2)]
    assert [objects for _, objects in shares] == [1, 1]
    pairs = Pairs(
        root=str(tmp_path), count=2, height=64, width=64, share_differing=0.0, objects=1.0
    )
    assert all(p.exists() and t.exists() for p, t in pairs.files(pairs.plain))
    for dataset, has_instances in ((pairs.plain, False), (pairs.with_instances, True)):
        examples = open_examples(dataset, "cityscapes", "val", images=False)
        files = prediction_files(pairs.predictions, examples.keys)
        tally = total(evaluate_predictions(files, examples, range(2)))
        assert (tally.has_ids, tally.has_instances) == (True, has_instances)
        matrix = tally.ids.matrix[1:]
        share = 1 - np.trace(tally.ids.matrix[:, :]) / matrix.sum()
        assert share == pytest.approx(np.mean([share for share, _ in shares]))


def test_of_each_pair_the_quickest_round_counts():
    assert quickest([[1.0, 5.0], [2.0, 3.0], [4.0, 4.0]]) == 2.0


def test_turns_of_a_case_become_one_row():
    turn = {"first_s": 9.0, "peak_mb": 700, "share_differing": 0.0, "classes": 5}
    turns = [
        {**turn, "seconds": [3.0, 2.0], "cpu_seconds": [2.5, 2.0]},
        {**turn, "seconds": [4.0, 5.0], "cpu_seconds": [1.5, 2.0], "peak_mb": 800, "first_s": 8.0},
    ]
    row = _summary(turns)
    assert (row["seconds"], row["seconds_median"], row["cpu_seconds"]) == (2.0, 3.5, 1.5)
    assert (row["peak_mb"], row["first_s"]) == (800, 8.0)
    assert _summary([{"failed": "no answer in 3 s"}]) == {"failed": "no answer in 3 s"}


def test_a_case_chooses_the_layout_for_a_while():
    usual = inference._layout
    with Case(layout="channels_last").in_force():
        network = inference.ready(small_model(), inference.PLAIN, "cpu")
        weights = [p for p in network.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
        assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
        assert not any(w.is_contiguous() for w in weights)
    assert inference._layout is usual
    names = [Case().name, Case(precision="bfloat16", layout="channels_last", compiled=True).name]
    assert names == ["float32, contiguous", "bfloat16, channels_last, compiled"]


def test_share_differing():
    labels = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    assert share_differing(labels, labels) == 0
    assert share_differing(labels, torch.tensor([[1, 2], [3, 5]], dtype=torch.uint8)) == 0.25


def test_asked_modules_answer_fail_or_are_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "says.py").write_text("print('hello\\n{\"a\": 1}')")
    (tmp_path / "fails.py").write_text("print('{\"a\": 1}'); raise SystemExit('line\\nso wrong')")
    (tmp_path / "hangs.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('{\"a\": 2}', flush=True)\ntime.sleep(60)"
    )
    answer = ask_module("says", limit_s=20)
    assert (answer.result, answer.failed) == ({"a": 1}, "")
    answer = ask_module("fails", limit_s=20)
    assert (answer.result, answer.failed) == ({"a": 1}, "so wrong")
    started = time.perf_counter()
    answer = ask_module("hangs", limit_s=0.5)  # waits for the child's end, which holds its output
    assert time.perf_counter() - started < 10
    assert answer.failed == "no answer in 0 s"


def test_repeated_examples():
    class Two:
        path, class_list, keys = "p", "cityscapes19", ("a", "b")

        def __len__(self) -> int:
            return 2

        def pair(self, index: int) -> tuple[int, Truth]:
            return index, self.truth(index)

        def truth(self, index: int) -> Truth:
            return Truth(label=np.full((1, 1), index, np.uint8))

    many = actors.Repeated(Two(), 3)
    assert len(many) == 6
    assert list(many.keys) == ["a-0", "b-0", "a-1", "b-1", "a-2", "b-2"]
    assert [many.pair(index)[0] for index in range(6)] == [0, 1] * 3
    assert many.truth(5).label[0, 0] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's accounts of CPU time")
def test_own_cpu_time_is_told_from_others():
    before = actors._Used.now()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    after = actors._Used.now()
    assert 0.25 < after.ours_s - before.ours_s < 1.5


def record() -> dict:
    done = {
        "seconds": 8.0,
        "cpu_seconds": 12.0,
        "speed_up": 1.0,
        "peak_mb": 2300,
        "share_differing": 0.08,
    }
    names = ["official, counting", "official, whole", "official, whole with instances"]
    names += [name.replace("official", "ours") for name in names]
    ms = {name: 10.0 + number for number, name in enumerate(names)}
    return {
        "size": "2048x1024",
        "command": "make bench-eval",
        "machine": "2 cores",
        "commit": "abc",
        "goals": {"speed": {"value": 1.5, "goal": ">= 2", "met": False}},
        "counting": {
            "official": "cityscapesScripts 2.3.0",
            "pairs": 20,
            "share_differing": 0.041,
            "whole_over_decoding": 1.43,
            "cpu_ms_per_pair": {**ms, "decoding, PIL": 9.0, "decoding, OpenCV": 8.0},
        },
        "forward": {
            "network": "the network",
            "by_threads": {
                "2": {"float32": done, "compiled": {"failed": "no answer in 9 s"}},
                "1": {"float32": done, "compiled": {"failed": "no answer in 9 s"}},
            },
        },
        "actors": {
            "size": "512x256",
            "scaling": 1.7,
            "by_actors": {
                str(n): {"images_per_s": 9.0 * n, "others_cores": 0.1 * n} for n in (1, 2)
            },
        },
    }


def gpu_record() -> dict:
    row = {"ms_per_image": 7.0, "peak_mb": 1200, "share_differing": 0.01}
    way = {"precision": "tf32", "batch_size": 1, "codec": "exact"}
    return {
        "device": "NVIDIA X",
        "size": "2048x1024",
        "command": "python3 -m tests.benchmarks.eval_gpu",
        "machine": "one NVIDIA X",
        "commit": "abc",
        "cases": {"float32": {"1": row, "4": row}, "float32, compiled": {"1": row}},
        "evaluate_images": [
            {**way, "threads": 0, "images_per_s": 30.0},
            {**way, "threads": 4, "images_per_s": 90.0},
        ],
        "left_out": ["JPEG: no simplejpeg here"],
    }


def test_readme_tells_what_was_measured_and_missed():
    text = evaluation_part(record(), None)
    assert "| counting pixels | 10.0 | 13.0 | 0.8 |" in text
    assert "| float32 | 12.0 | 1.00 | 8.0 | 1.00 | 2.3 | 8.0 % |" in text
    assert "| compiled | no answer in 9 s |  | no answer in 9 s |  |  |  |" in text
    assert "1.43 times what OpenCV takes" in text
    assert "9.0 with 1, 18.0 with 2 (times 1.70" in text
    assert "Missed goals: speed: 1.50 (>= 2)" in text
    assert "NVIDIA" not in text
    for line in (line for line in text.splitlines() if line.startswith("|")):
        assert line.count("|") in (5, 8)


def test_readme_tells_of_a_gpu_where_there_was_one():
    text = evaluation_part(record(), gpu_record())
    assert "| float32 | 7.0 | 7.0 | 1.2 | 1.0 % |" in text
    assert "| float32, compiled | 7.0 |  | 1.2 | 1.0 % |" in text
    assert "90 images/s (tf32, batches of 1, codec exact) with 4 threads" in text
    assert "30 without" in text
    assert "Left out: JPEG: no simplejpeg here." in text
