"""Reports: their JSON, text tables, and pictures."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uda.classes import CLASS_LISTS, IGNORE, LABEL_IDS, PALETTE
from uda.metrics import Confusion
from uda.pictures import colorize, contact_sheet, overlay
from uda.report import (
    EvalReport,
    comparison_table,
    finite_or_none,
    json_text,
    oracle_scores,
    show_report,
    text_table,
)
from uda.tally import Tally
from uda.types import Truth, UserError

CITYSCAPES = CLASS_LISTS["cityscapes19"]


def some_confusion(seed: int = 0, num_classes: int = 19) -> Confusion:
    random = np.random.default_rng(seed)
    label = random.integers(0, num_classes, 4000).astype(np.uint8)
    noise = random.integers(0, num_classes, 4000).astype(np.uint8)
    return Confusion.of(np.where(random.random(4000) < 0.7, label, noise), label)


def tally_of(confusion: Confusion, images: int) -> Tally:
    return Tally(confusion=confusion, images=images)


def some_result(class_list=CITYSCAPES, seed: int = 0, num_classes: int = 19) -> dict:
    confusion = some_confusion(seed, num_classes)
    return EvalReport.of(tally_of(confusion, 12), class_list, checkpoint="runs/a/step-1").json()


@pytest.mark.parametrize("name", CLASS_LISTS)
@pytest.mark.parametrize("num_classes", [5, 19])
def test_json_holds_what_is_promised(name, num_classes):
    class_list = CLASS_LISTS[name]
    confusion = some_confusion(1, num_classes)
    result = EvalReport.of(tally_of(confusion, 3), class_list, checkpoint="c", data="d").json()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["classes"] == [class_list.class_name(k) for k in class_list.scored]
    assert list(result["iou"]) == result["classes"]
    for value, expected in zip(
        result["iou"].values(), confusion.iou(class_list).values(), strict=True
    ):
        assert value is None if math.isnan(expected) else value == expected
    assert result["miou"] == confusion.miou(class_list)
    assert result["pixel_accuracy"] == confusion.pixel_accuracy(class_list)
    assert result["confusion"] == confusion.matrix.tolist()
    assert (result["images"], result["checkpoint"], result["data"]) == (3, "c", "d")
    assert result["protocol"] == "cityscapes"


def test_json_of_nothing_has_null_and_no_nan():
    result = EvalReport.of(Tally(), CITYSCAPES).json()
    assert result["miou"] is None
    assert result["pixel_accuracy"] is None
    assert set(result["iou"].values()) == {None}
    assert "NaN" not in json.dumps(result, allow_nan=False)


def test_label_free_and_oracle_scores_are_apart():
    tally = tally_of(some_confusion(), 1)
    report = EvalReport.of(tally, CITYSCAPES)
    assert report.scores == {}
    assert report.oracle == oracle_scores(tally, CITYSCAPES)
    unlabelled = EvalReport(scores={"entropy": 0.5, "broken": float("nan")}, images=1)
    assert "miou" not in unlabelled.json()
    assert unlabelled.json()["scores"] == {"entropy": 0.5, "broken": None}


def test_json_text_is_compact_and_the_same():
    result = some_result(num_classes=4)
    text = json_text(result)
    assert json.loads(text) == result
    assert len(text.splitlines()) < 100
    assert text.endswith("}\n")
    assert json.loads(json_text({"checkpoint": "[1,  2]"})) == {"checkpoint": "[1,  2]"}
    assert json_text({"a": [1, -2]}) == '{\n  "a": [1, -2]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        json_text({"miou": float("nan")})


def test_show_report_prints_and_writes(tmp_path, capsys):
    report = EvalReport.of(tally_of(some_confusion(), 12), CITYSCAPES)
    show_report(report)
    assert capsys.readouterr().out == text_table(report.json()) + "\n"
    show_report(report, tmp_path / "new" / "scores.json")
    assert json.loads((tmp_path / "new" / "scores.json").read_text()) == report.json()


@given(st.floats())
def test_finite_or_none(value):
    assert finite_or_none(value) == (value if abs(value) < math.inf else None)


@pytest.mark.parametrize("name", CLASS_LISTS)
@pytest.mark.parametrize("num_classes", [1, 5, 19])
def test_table_fits_a_terminal(name, num_classes):
    result = some_result(CLASS_LISTS[name], num_classes=num_classes)
    table = text_table(result)
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    for title in result["classes"]:
        (line,) = [line for line in lines if line.startswith(title + " ")]
        value = result["iou"][title]
        number = line[len(title) :].split()[0]
        assert number == ("-" if value is None else f"{100 * value:.2f}")
    assert f"{100 * result['miou']:.2f}" in table
    scored = sum(value is not None for value in result["iou"].values())
    assert f"12 images, mean of {scored} of {len(result['classes'])} classes" in lines[-1]


def test_table_is_aligned():
    result = some_result()
    lines = text_table(result).splitlines()
    body = [line for line in lines if line.partition("  ")[0] in result["classes"]]
    assert len(body) == 19
    assert len({line.index(".") for line in body}) == 1


def test_table_of_nothing():
    result = EvalReport.of(Tally(), CITYSCAPES).json()
    assert text_table(result).splitlines()[-1].startswith("0 images, mean of 0 of 19 classes")
    assert comparison_table({"a": result, "b": result}).count(" -") >= 19


def test_comparison_shows_columns_and_difference():
    first, second = some_result(seed=1, num_classes=8), some_result(seed=2)
    table = comparison_table({"source-only": first, "adapted": second})
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split("  ")[-3:] == ["source-only", "adapted", "difference"]
    assert len({len(line) for line in lines}) == 1, "right-aligned"
    cells = {line[:14].strip(): line[14:].split() for line in lines}
    for name in first["classes"]:
        old, new = first["iou"][name], second["iou"][name]
        want = ["-" if value is None else f"{100 * value:.2f}" for value in (old, new)]
        want.append("-" if None in (old, new) else f"{100 * (new - old):+.2f}")
        assert cells[name] == want
    assert cells["mean IoU"][2] == f"{100 * (second['miou'] - first['miou']):+.2f}"


def test_comparison_of_one_has_no_difference():
    assert "difference" not in comparison_table({"adapted": some_result()})


def test_comparison_of_four_fits_a_terminal():
    titles = ["sourceonly", "adapted-01", "adapted-02", "adapted-03"]
    table = comparison_table({title: some_result() for title in titles})
    assert max(map(len, table.splitlines())) <= 80


def test_comparison_refuses_other_classes():
    others = {"a": some_result(), "b": some_result(CLASS_LISTS["camvid11"])}
    with pytest.raises(UserError, match="comparison: got other classes for 'b'"):
        comparison_table(others)


def test_colors_are_those_of_the_palette():
    label = np.array([[0, 10], [18, IGNORE]], np.uint8)
    colors = [[[128, 64, 128], [70, 130, 180]], [[119, 11, 32], [0, 0, 0]]]
    assert colorize(label).tolist() == colors


def test_overlay_mixes_by_alpha():
    image = np.full((1, 3, 3), 200, np.uint8)
    label = np.array([[0, 13, IGNORE]], np.uint8)
    assert np.array_equal(overlay(image, label, 0.0), image)
    assert overlay(image, label, 1.0).tolist() == [[[128, 64, 128], [0, 0, 142], [200, 200, 200]]]
    assert overlay(image, label, 0.25)[0, 1].tolist() == [150, 150, 186]
    assert overlay(image, label).dtype == np.uint8
    with pytest.raises(UserError, match=r"alpha: got 1\.5"):
        overlay(image, label, 1.5)


def pictures(rows: int, columns: int, shape: tuple[int, int] = (32, 64)) -> list[list[np.ndarray]]:
    """Each picture has one colour of the palette, another for each place."""
    return [
        [np.broadcast_to(PALETTE[columns * r + c], (*shape, 3)).copy() for c in range(columns)]
        for r in range(rows)
    ]


@pytest.mark.parametrize("class_list", [None, *CLASS_LISTS.values()])
@pytest.mark.parametrize("row_titles", [(), ("first", "second, of\ntwo lines")])
def test_contact_sheet_shows_every_picture_enlarged(class_list, row_titles):
    grid = pictures(2, 3)
    titles = ["image", "truth", "adapted"]
    sheet = contact_sheet(grid, titles, row_titles, class_list=class_list, cell_width=130)
    seen = np.array(sheet).reshape(-1, 3)
    for picture in (picture for row in grid for picture in row):
        count = (seen == picture[0, 0]).all(axis=1).sum()
        assert count >= 128 * 64, "twice as large, in full"
    assert sheet.width >= 3 * 128


def test_contact_sheet_reduces_large_pictures():
    sheet = contact_sheet(pictures(1, 2, (500, 1000)), ["a", "b"], cell_width=200)
    assert 400 < sheet.width < 520


def test_legend_shows_the_scored_classes_only():
    nothing = [[np.full((32, 64, 3), 77, np.uint8)]]
    sheet = contact_sheet(nothing, ["image"], class_list=CLASS_LISTS["camvid11"], cell_width=640)
    colors = {color for _, color in sheet.getcolors(1 << 16)}
    scored = CLASS_LISTS["camvid11"].scored
    shown = {k for k in range(19) if tuple(PALETTE[k].tolist()) in colors}
    assert shown == set(scored)


@pytest.mark.parametrize(
    ("rows", "titles", "row_titles", "message"),
    [
        ([], ["a"], (), "no pictures"),
        (pictures(1, 2), ["a"], (), r"rows of \[2\], want 1"),
        (pictures(2, 1), ["a"], ("one",), "1 row titles, want 2"),
        ([[*pictures(1, 1)[0], *pictures(1, 1, (8, 8))[0]]], ["a", "b"], (), "one shape"),
    ],
)
def test_contact_sheet_refuses_uneven_grids(rows, titles, row_titles, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(rows, titles, row_titles)


def some_official_tally(instances: bool) -> Tally:
    """Cityscapes ids of two images, with or without instances."""
    random = np.random.default_rng(3)
    tally = Tally()
    for _ in range(2):
        ids = random.integers(0, 34, (20, 30)).astype(np.uint8)
        label = np.full(256, IGNORE, np.uint8)
        label[list(LABEL_IDS)] = range(19)
        objects = np.where(ids > 23, ids.astype(np.int32) * 1000 + 1, ids).astype(np.int32)
        instance_ids = objects if instances else None
        truth = Truth(label=label[ids], label_ids=ids, instance_ids=instance_ids)
        prediction = np.where(random.random(ids.shape) < 0.5, label[ids], 13).astype(np.uint8)
        prediction[prediction == IGNORE] = 0
        tally += Tally.of(prediction, truth)
    return tally


@pytest.mark.parametrize("instances", [False, True])
def test_official_entries_stand_beside_ours(instances):
    result = EvalReport.of(some_official_tally(instances), CITYSCAPES).json()
    assert json.loads(json_text(result)) == result
    assert result["miou"] == pytest.approx(result["averageScoreClasses"], abs=1e-15)
    assert {n: result["classScores"][n] for n in result["classes"]} == pytest.approx(result["iou"])
    assert (result["averageScoreInstClasses"] is not None) == instances
    lines = text_table(result).splitlines()
    assert max(map(len, lines)) <= 80
    assert ("iIoU" in lines[0]) == instances
    (flat,) = [line for line in lines if line.startswith("flat")]
    assert f"{100 * result['categoryScores']['flat']:.2f}" in flat
    (car,) = [line for line in lines if line.startswith("car ")]
    if instances:
        assert f"{100 * result['classInstScores']['car']:.2f}" in car
    assert not any(line.startswith("void") for line in lines)


def test_ids_of_some_images_alone_give_no_official_scores():
    tally = some_official_tally(True) + tally_of(some_confusion(), 1)
    result = EvalReport.of(tally, CITYSCAPES).json()
    assert "confMatrix" not in result
    assert result["images"] == 3


def test_segmentron_protocol_counts_absent_classes_as_zero():
    confusion = some_confusion(num_classes=5)
    tally = Tally(confusion=confusion, images=1, truncated_hits=1000, with_truncated=1)
    theirs = EvalReport.of(tally, CITYSCAPES, protocol="segmentron").json()
    ours = EvalReport.of(tally, CITYSCAPES).json()
    assert ours["iou"]["car"] is None
    assert theirs["iou"]["car"] == 0.0
    assert theirs["miou"] == pytest.approx(ours["miou"] * 5 / 19)
    assert theirs["pixel_accuracy"] == ours["pixel_accuracy"]
    assert theirs["pixel_accuracy_truncated"] == 1000 / 4000
    assert "pixel_accuracy_truncated" not in ours


def test_show_report_after_segmentrons_lines_says_what_is_true(capsys):
    tally = Tally(confusion=some_confusion(), images=1, truncated_hits=1, with_truncated=1)
    show_report(EvalReport.of(tally, CITYSCAPES, protocol="segmentron"))
    accuracy = 100 * tally.confusion.pixel_accuracy(CITYSCAPES)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"true pixel accuracy: {accuracy:.3f}")


def test_worst_images_are_listed(capsys):
    worst = [{"key": "a/b_1", "miou": 0.125, "pixel_accuracy": 0.5}]
    show_report(EvalReport.of(tally_of(some_confusion(), 2), CITYSCAPES, worst=worst))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "worst images: mean IoU and pixel accuracy, %",
        " 12.50   50.00  a/b_1",
    ]
