import ast
import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import ingest, ingest_peers
from tests.benchmarks.ingest_peers import PIPELINES
from tests.benchmarks.ingest_peers.measure import Settings, measure
from tests.benchmarks.ingest_peers.picture import Bar, draw_bars
from tests.benchmarks.ingest_peers.transform import (
    CROP,
    HEIGHT,
    WIDTH,
    Window,
    cut,
    draw_window,
    taking,
)

OURS, PEER = (38, 112, 190), (168, 174, 182)


def figures(cpu: float, **more: float) -> dict[str, float]:
    return {
        "cpu_ms_per_sample": cpu,
        "samples_per_s": 100.0,
        "peak_pss_mb": 500.0,
        "open_s": 0.0,
        "first_batch_s": 0.5,
        **more,
    }


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_name_a_function(name):
    """Parsed and not imported: most peers are in an environment of their own."""
    module, _, function = PIPELINES[name].opened_by.partition(":")
    tree = ast.parse((Path(ingest_peers.__file__).parent / f"{module}.py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_windows_lie_in_the_image_and_reach_its_edges():
    draws = np.random.default_rng(0)
    windows = [draw_window(draws) for _ in range(4000)]
    sides, tops, lefts, flips = zip(
        *((w.side, w.top, w.left, w.flip) for w in windows), strict=True
    )
    assert min(sides) in range(CROP, CROP + 5)
    assert max(sides) in range(2 * CROP - 5, 2 * CROP + 1)
    assert np.mean(sides) == pytest.approx(CROP * np.log(4), rel=0.01)  # mean of CROP / U(.5, 1)
    assert min(tops) == 0
    assert max(w.top + w.side for w in windows) == HEIGHT
    assert min(lefts) < 5
    assert max(w.left + w.side for w in windows) in range(WIDTH - 5, WIDTH + 1)
    assert np.mean(flips) == pytest.approx(0.5, abs=0.05)


def test_cut_takes_the_same_place_of_image_and_label():
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) / 8
    image = np.stack([columns, rows, columns], axis=2).astype(np.uint8)
    label = columns.astype(np.uint8)
    window = Window(top=0, left=300, side=HEIGHT, flip=True)
    crop, crop_label = cut(window.of(image), window.of(label), window)
    assert crop.shape == (CROP, CROP, 3)
    # Twice as coarse and mirrored: column 0 shows what is at the window's right end.
    np.testing.assert_allclose(crop[0, [0, -1], 0], [(1323 - 0.5) / 8, 300.5 / 8], atol=1)
    np.testing.assert_allclose(crop[[0, -1], 0, 1], [0.5 / 8, (1023 - 0.5) / 8], atol=1)
    assert np.abs(crop[..., 0].astype(int) - crop_label).max() <= 1


def test_taking_refuses_half_a_batch():
    whole = (np.zeros((4, CROP, CROP, 3), np.uint8), np.zeros((4, CROP, CROP), np.uint8))
    half = tuple(array[:2] for array in whole)
    take = taking([whole, whole, half])
    take(2)
    with pytest.raises(AssertionError):
        take(1)


@pytest.mark.slow
def test_a_pipeline_that_fails_says_why(tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)No such file.*floor: failed"):
        measure("floor", tmp_path / "nowhere", Settings(), tmp_path / "log")


def test_rounds_are_kept(tmp_path, monkeypatch):
    """What an interrupted bench has measured is not measured again, unless settings change."""
    monkeypatch.setattr(ingest, "ROUNDS", tmp_path / "rounds.jsonl")
    monkeypatch.setattr(ingest, "LOGS", tmp_path / "logs")
    measured = []

    def fake_measure(name, data, settings, log):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(name)
        return figures(float(len(measured)))

    monkeypatch.setattr(ingest, "measure", fake_measure)
    names = ["torch_u8", "ours_local"]
    with pytest.raises(KeyboardInterrupt):
        ingest._measure_all(names, 2, Settings())
    assert measured == ["torch_u8", "ours_local", "ours_local"]  # the second round begins elsewhere
    del measured[:2]
    results = ingest._measure_all(names, 2, Settings())
    assert measured == ["ours_local", "torch_u8"]
    assert [f["cpu_ms_per_sample"] for f in results["torch_u8"]] == [1, 2]
    assert [f["cpu_ms_per_sample"] for f in results["ours_local"]] == [2, 3]
    measured.clear()
    ingest._measure_all(["torch_u8"], 1, Settings(samples=8))
    assert measured == ["torch_u8"]


def test_record_compares_with_the_best_peer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ingest, "BENCHES", tmp_path)
    cpu = {name: 10.0 for name in PIPELINES} | {
        "floor": 2.0,
        "floor_full": 5.0,  # no peer
        "torch_png": 60.0,
        "spdl_u8": 8.0,
        "ours_streaming": 4.0,
        "ours_resident": 3.0,
    }
    rounds = {
        name: [figures(ms + step, first_batch_s=6.0) for step in (-1, 0, 1.5)]
        for name, ms in cpu.items()
    }
    summary = {name: ingest._summary(rounds[name]) for name in rounds}
    ingest._record(summary, Settings(), 3, {"mean_kb": {"png images": 2500.0}})
    record = json.loads((tmp_path / "ingest.json").read_text())
    assert record["best_peer"] == "spdl_u8"
    assert [(goal["value"], goal["met"]) for goal in record["goals"].values()] == [
        (0.5, True),
        (0.375, True),
        (15.0, True),
        (20.0, True),
        (1.5, False),
        (6.0, False),
    ]
    assert record["pipelines"]["floor"]["cpu_ms_range"] == [1.0, 3.5]
    assert capsys.readouterr().out.count("MISSED") == 2
    assert (tmp_path / "ingest.png").exists()
    assert "| SPDL threads, uint8 | 8.00 (7.00 to 9.50) | 1.00 | 100 |" in ingest._table(summary)


def test_a_dwarfing_bar_is_broken():
    """Else the others could not be told apart; the rest keep their proportions."""
    bars = [Bar("slow", "peer", 100.0, (99, 101)), Bar("a", "peer", 10.0, (10, 10))]
    picture = np.asarray(draw_bars([*bars, Bar("b", "ours", 5.0, (5, 5))], "title", "note"))
    blue, grey = ((picture == color).all(axis=2).sum(axis=1) for color in (OURS, PEER))
    assert min(blue[blue > 300]) == pytest.approx(1000 / 1.25 / 2, abs=3)  # beside it is text
    assert 800 < max(grey) < 1001
