"""What people read of a search: the table, the files of the report, TensorBoard's HPARAMS page."""

import csv
import dataclasses
import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from cluster.search_file import read_search
from cluster.search_hparams import HPARAMS_FILE, ORACLE_TAG, QUALITY_TAG, write_hparams
from cluster.search_importance import FEWEST_TRIALS, importance
from cluster.search_page import page
from cluster.search_plots import sections
from cluster.search_report import csv_text, write_report
from cluster.search_scale import Scale
from cluster.search_table import summary, table
from cluster.search_words import cut, one_line, short_names, show_value, text_width
from cluster.trials import Axis, Search
from tests.test_trials import AXES, search, some_search, trial

VOID_TAGS = {"meta", "br", "wbr"}
EVIL = "</script><script>alert(1)</script> \x1b[31m\x07 & \"quoted\" 'too' 失敗\u2028\nsecond line"


def drawn(number: int, chance: random.Random, **given) -> dict:
    """A trial of which only the learning rate matters, near 1e-3."""
    rate = 10 ** chance.uniform(-5, -2)
    changes = {
        "optim.lr": rate,
        "losses.a.weight": chance.choice([0.0, 10 ** chance.uniform(-2, 0)]),
        "mixing": chance.choice(["none", "class"]),
        "flip": chance.choice([True, False]),
    }
    if changes["flip"]:
        changes["teacher.steps"] = chance.randint(1, 9)
    quality = 0.8 - 0.1 * (math.log10(rate) + 3) ** 2
    return {"changes": changes, "qualities": (quality - 0.1, quality)} | given


def big_search(num: int, **given) -> Search:
    chance = random.Random(0)
    trials = [trial(0, 0.4, 0.5, oracle=given.get("allow_oracle", False))]
    for number in range(1, num):
        made = drawn(number, chance)
        status = "stopped" if number % 5 == 0 else "finished"
        trials.append(
            trial(number, *made["qualities"], changes=made["changes"], status=status,
                  oracle=given.get("allow_oracle", False), reason="below" * (number % 5 == 0))
        )  # fmt: skip
    return search(*trials, **given)


def failed_search() -> Search:
    return search(*(trial(number, status="failed", reason=EVIL) for number in range(3)))


def evil_search(**given) -> Search:
    axes = (
        Axis(path="a.<b>&", kind="log", low=1e-5, high=1e-2, preset=0),
        Axis(path='a."x"', kind="choice", values=("<img src=x onerror=alert(2)>", "none")),
        *AXES[1:],
    )
    changes = {"a.<b>&": 1e-3, 'a."x"': "<img src=x onerror=alert(2)>"}
    return search(
        trial(0, 0.5),
        trial(1, 0.6, changes=changes, reason=EVIL, status="stopped"),
        space=EVIL, question=EVIL, preset=EVIL, axes=axes, **given,
    )  # fmt: skip


SEARCHES = {
    "none": search(),
    "one": search(trial(0, 0.5)),
    "unscored": search(trial(0), trial(1, None, math.nan)),
    "some": some_search(),
    "failed": failed_search(),
    "evil": evil_search(),
    "alike": search(*(trial(number, 0.5) for number in range(12))),
    "no axes": search(trial(0, 0.5), axes=()),
    "many": big_search(60),
    "oracle": big_search(12, allow_oracle=True),
    "chosen by oracle": big_search(12, allow_oracle=True, metric="oracle:miou"),
}
every_search = pytest.mark.parametrize("made", SEARCHES.values(), ids=SEARCHES)


class Reader(HTMLParser):
    """Checks that tags are closed in order; gathers what is seen and what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.scripts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside == "script" else self.seen).append(data)


def read(made: Search) -> tuple[Reader, str]:
    """The page as a browser would take it, and its text without Plotly itself."""
    text = page(made)
    plotly = get_plotlyjs()
    assert text.count(plotly) == 1
    ours = text.replace(plotly, "")
    reader = Reader()
    reader.feed(ours)
    reader.close()
    assert not reader.open
    return reader, ours


# --- words


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["optim.lr", "model.os"], ["lr", "os"]),
        (["optim.lr", "adversary.lr"], ["optim.lr", "adversary.lr"]),
        (["losses.a.weight", "optim.lr"], ["a.weight", "lr"]),
        (["losses.a.weight", "losses.b.weight"], ["a.weight", "b.weight"]),
        (["a.lr", "x.a.lr"], ["a.lr", "x.a.lr"]),
        (["seed"], ["seed"]),
        (["optim.lr", "optim.xlr"], ["lr", "xlr"]),
    ],
)
def test_names_are_as_short_as_can_be_told_apart(paths, names):
    assert list(short_names(paths).values()) == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        (123456, "123456"),
        (0.000123456, "0.000123"),
        (1.23456e-6, "1.23e-06"),
        (1234.5, "1234"),
        (1e9, "1e+09"),
        (0.0, "0"),
        ("a\nb", "a b"),
    ],
)
def test_values_are_shown_with_three_digits(value, text):
    assert show_value(value) == text


def test_text_is_cut_by_the_columns_it_takes():
    assert cut("finished", 8) == "finished"
    assert cut("finished", 7) == "finish…"
    assert cut("失敗失敗", 5) == "失敗…"
    assert cut("失敗失敗", 4) == "失…"
    assert cut("x", 0) == ""
    assert text_width(cut("e\u0301" * 9, 4)) == 4
    assert one_line("a\x1b[31m\r\nb\tc") == "a�[31m b c"


# --- terminal


@every_search
@pytest.mark.parametrize("width", [10, 40, 79, 200])
def test_a_table_is_never_wider_than_the_terminal(made, width):
    lines = table(made, width=width, limit=7).splitlines()
    assert max(map(text_width, lines)) <= width
    assert all(line.strip() and line.isprintable() for line in lines)
    assert len(lines) < 7 + 8


@every_search
def test_every_text_for_a_terminal_says_whether_it_is_an_oracle(made):
    folder = Path("runs/tune")
    for text in (table(made, width=120, limit=9), summary(made, folder=folder, command="uda x")):
        assert ("ORACLE" in text) == made.allow_oracle
        assert made.allow_oracle or "oracle" not in text.lower()


def test_a_table_shows_who_runs_and_who_is_best():
    made = search(
        trial(0, 0.5),
        trial(1, 0.9),
        trial(2, 0.7, status="stopped", reason="below the best third at step 10"),
        trial(3, 0.99, status="failed", reason="out of memory", retries=2),
        trial(4, 0.2, status="running"),
        trial(5, None, status="running"),
    )
    lines = table(made, width=120, limit=9).splitlines()
    assert lines[0] == "weights on demo, 6 trials: 2 running, 2 finished, 1 stopped, 1 failed"
    rows = [line.split() for line in lines[lines.index(next(x for x in lines if "---" in x)) + 1 :]]
    assert [row[0] for row in rows[:6]] == ["4", "5", "1*", "2", "0=", "3"]
    assert rows[1][:3] == ["5", "-", "10/100"]
    assert rows[2][:4] == ["1*", "0.9000", "10/100", "0.0001"]
    assert rows[4][3:6] == ["0.001", "0", "-"], "what the preset has"
    assert "stopped: below the best third at step 10" in lines[-4]
    assert "failed (try 3): out of memory" in lines[-2]
    assert lines[-1] == "* best by quality  = hand-set preset"


def test_a_short_table_has_the_best_and_says_what_is_missing():
    made = search(trial(0, 0.9), *(trial(n, 0.1, status="running") for n in range(1, 9)))
    text = table(made, width=60, limit=3)
    assert "0*=" in text
    assert "and 6 more" in text
    assert "no room for" in table(made, width=40, limit=3)
    assert "no room for" not in table(made, width=120, limit=3)


def test_a_summary_says_what_to_do_with_the_best():
    made = search(trial(0, 0.5), trial(1, 0.3, 0.6, changes={"optim.lr": 3e-4}))
    lines = summary(made, folder=Path("runs/w"), command="uda train runs/w/best.json").splitlines()
    assert lines == [
        "best      trial 1, quality 0.6000 at step 20",
        "changes   lr=0.0003",
        "hand-set  trial 0, quality 0.5000: the best is +0.1000 (+20.0 %)",
        "folder    runs/w/trials/0001",
        "train     uda train runs/w/best.json",
        "trials    2 trials: 2 finished",
    ]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (search(trial(0, 0.9), trial(1, 0.1)), "nothing that was tried is better"),
        (search(trial(1, 0.1)), "no value to compare with"),
        (search(trial(0, status="failed"), trial(1, 0.1)), "no value to compare with"),
        (search(trial(0, 0.0), trial(1, 0.1)), "the best is +0.1000\n"),
        (failed_search(), "no trial has a value"),
    ],
)
def test_a_summary_says_where_there_is_nothing_to_compare(made, said):
    assert said in summary(made, folder=Path("x"), command="y") + "\n"


# --- csv


def rows_of(made: Search) -> list[dict[str, str]]:
    return list(csv.DictReader(csv_text(made).splitlines()))


@every_search
def test_the_csv_has_a_row_for_every_trial(made):
    rows = rows_of(made)
    assert [int(row["trial"]) for row in rows] == [t.number for t in made.trials]
    assert [row["status"] for row in rows] == [t.status for t in made.trials]
    assert len(csv_text(made).splitlines()) == 1 + len(made.trials), "reasons are one line"
    columns = next(csv.reader([csv_text(made).splitlines()[0]]))
    assert set(made.paths) <= set(columns)
    assert [c for c in columns if "oracle" in c.lower()] == (
        ["oracle_miou", "oracle_highest_miou"] if made.allow_oracle else []
    )


def test_the_csv_is_about_the_best_checkpoint():
    made = search(
        trial(0, 0.9, 0.5, oracle=True),
        trial(1, None, oracle=True, changes={"optim.lr": 1e-4, "flip": False}),
        allow_oracle=True,
    )
    first, second = rows_of(made)
    expected = {
        "step": "20", "best_step": "10", "quality": "0.9", "consistency": "0.5",
        "separation": "0.1", "oracle_miou": "0.05", "oracle_highest_miou": "0.1",
        "folder": "trials/0000", "optim.lr": "", "flip": "",
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert (second["quality"], second["best_step"], second["separation"]) == ("", "", "")
    assert (second["optim.lr"], second["flip"], second["mixing"]) == ("0.0001", "False", "")


# --- page


@every_search
def test_the_page_is_well_formed_and_says_whether_it_is_an_oracle(made):
    reader, ours = read(made)
    assert ("ORACLE" in ours) == made.allow_oracle
    assert ("oracle" in ours.split("<main>")[1]) == made.allow_oracle
    rows = "".join(reader.seen).count("trials/0")
    assert rows == len(made.trials)
    for status, count in made.num_by_status.items():
        assert f"{count} {status}" in ours


@every_search
def test_the_page_loads_nothing(made):
    reader, ours = read(made)
    assert not [name for name, _ in reader.attributes if name in ("src", "href", "action")]
    assert not re.findall(r"https?:", ours)
    assert "default-src 'none'" in ours
    assert "showSendToCloud: false" in ours


def test_nothing_of_the_records_can_run_in_the_page():
    reader, ours = read(evil_search(allow_oracle=True))
    assert "<img" not in ours
    assert len(reader.scripts) == 1, "ours, as Plotly is left out"
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert "</script>" not in reader.scripts[0]
    shown = "".join(reader.seen)
    assert "<script>alert(1)</script>" in shown
    assert "失敗 second line" in shown
    assert "\x1b" not in ours


def figures_of(made: Search) -> dict[str, dict]:
    """Figures by the titles of their sections, as Plotly will get them."""
    return {
        part.title: json.loads(part.figure.to_json())
        for part in sections(made)
        if part.figure is not None
    }


def test_labels_are_escaped_for_plotly_too():
    for title, figure in figures_of(evil_search()).items():
        # Plotly takes labels for HTML, but for the ticks of parallel coordinates.
        if title != "Parallel coordinates":
            assert "<img" not in json.dumps(figure), title
            assert "<script" not in json.dumps(figure), title


def test_the_history_has_the_running_best_and_the_hand_set_preset():
    made = search(trial(0, 0.5), trial(1, 0.4), trial(2, 0.99, status="failed"), trial(3, 0.7),
                  trial(4))  # fmt: skip
    traces = {trace["name"]: trace for trace in figures_of(made)["History"]["data"]}
    best = traces["best so far"]
    assert (best["x"], best["y"]) == ([0, 1, 3, 4], [0.5, 0.5, 0.7, 0.7])
    assert traces["hand-set preset"]["y"] == [0.5, 0.5]
    assert traces["failed"]["x"] == [2]
    assert "1 without a value is not shown" in sections(made)[0].text


def test_learning_curves_mark_who_was_stopped():
    made = search(trial(0, 0.5, 0.6), trial(1, 0.1, None, status="stopped"), trial(2, 0.3, 0.4))
    traces = {trace["name"]: trace for trace in figures_of(made)["Learning curves"]["data"]}
    assert (traces["stopped here"]["x"], traces["stopped here"]["y"]) == ([10], [0.1])
    assert traces["finished"]["y"] == [0.3, 0.4, None]
    assert "best" not in traces, "it is the hand-set preset"


def test_parallel_coordinates_are_logarithmic_where_the_space_is():
    everything = {"optim.lr": 1e-4, "losses.a.weight": 0.1, "mixing": "class", "flip": True}
    made = search(trial(0, 0.5), trial(1, 0.6, changes=everything))
    (lines,) = figures_of(made)["Parallel coordinates"]["data"]
    rate, weight, steps, mixing, flip, quality = lines["dimensions"]
    assert rate["values"] == pytest.approx([-3, -4])
    assert rate["range"] == pytest.approx([-5, -2])
    assert rate["ticktext"] == ["1e-05", "0.0001", "0.001", "0.01"]
    assert weight["ticktext"] == ["0", "0.01", "0.1", "1"]
    assert weight["values"] == [weight["range"][0], pytest.approx(-1)]
    assert steps["values"] == [steps["range"][0]] * 2
    assert steps["ticktext"][0] == "not set"
    assert (mixing["values"], mixing["ticktext"]) == ([1, 1], ["none", "class"])
    assert flip["ticktext"] == ["not set", "true", "false"]
    assert quality["values"] == [0.5, 0.6]


def test_a_parameter_has_a_panel_where_somebody_has_set_it():
    made = search(trial(0, 0.5), trial(1, 0.6, changes={"flip": True}))
    layout = figures_of(made)["Parameters one by one"]["layout"]
    titles = [axis["title"]["text"] for name, axis in layout.items() if name.startswith("xaxis")
              and "title" in axis]  # fmt: skip
    assert titles == ["lr", "a.weight", "mixing", "flip"]
    unknown = tuple(dataclasses.replace(axis, preset=None) for axis in AXES)
    assert "Parameters one by one" not in figures_of(search(trial(0, 0.5), axes=unknown))


@pytest.mark.parametrize(
    ("axis", "values", "places", "ticks"),
    [
        (Axis(path="a", kind="linear", low=0, high=10), [0, 5.0], [0, 5],
         ["0", "2", "4", "6", "8", "10"]),
        (Axis(path="a", kind="linear", low=1, high=2, or_zero=True), [0], [0],
         ["0", "0.5", "1", "1.5", "2"]),
        (Axis(path="a", kind="linear", low=3, high=3), [3], [3], ["3"]),
        (Axis(path="a", kind="log", low=1, high=1), [1], [0], ["1"]),
        (Axis(path="a", kind="log", low=1, high=1, or_zero=True), [0, 1], [-0.12, 0], ["0", "1"]),
        (Axis(path="a", kind="log", low=2, high=5), [], [], ["2", "5"]),
        (Axis(path="a", kind="log", low=0.1, high=1), [10], [1], ["0.1", "1", "10"]),
        (Axis(path="a", kind="choice", values=(1, "x")), ["y", None, 1], [2, 0], ["1", "x", "y"]),
    ],
)  # fmt: skip
def test_a_scale_has_room_for_all_values(axis, values, places, ticks):
    scale = Scale.of(axis, values)
    assert [scale.place(v) for v in values if v is not None] == pytest.approx(places)
    assert list(scale.ticks.values()) == ticks
    assert all(scale.low <= place <= scale.high for place in scale.ticks)


def test_importance_finds_what_matters_and_says_what_it_rests_on():
    found = importance(SEARCHES["many"])
    assert next(iter(found.shares)) == "optim.lr"
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.shares.keys() == set(SEARCHES["many"].paths)
    finished = SEARCHES["many"].num_by_status["finished"] - 1  # but for the hand-set preset
    assert (found.num_trials, found.num_best) == (finished, 5)
    (said,) = [part.text for part in sections(SEARCHES["many"]) if "Importance" in part.title]
    assert f"the best 5 of {finished} finished trials" in said


@pytest.mark.parametrize("name", ["one", "some", "alike", "evil"])
def test_importance_is_left_out_where_it_would_say_nothing(name):
    (part,) = [part for part in sections(SEARCHES[name]) if "Importance" in part.title]
    assert part.figure is None
    assert "Left out" in part.text


def test_importance_leaves_out_what_was_not_drawn():
    outside = [trial(n, 0.5, changes={"optim.lr": 5.0}) for n in range(1, 9)]
    unknown = [trial(n, 0.5, changes={"new.path": 5.0}) for n in range(9, 19)]
    assert importance(search(*outside, *unknown)).num_trials == 0
    assert FEWEST_TRIALS > 0


def test_quality_is_compared_with_the_oracle_where_that_is_allowed():
    pairs = [(0.1, 0.2), (0.5, 0.3), (0.4, 0.6), (0.9, 0.8)]
    trials = [trial(number, quality) for number, (quality, _) in enumerate(pairs)]
    seen = [
        dataclasses.replace(t, curve=(dataclasses.replace(t.curve[0], oracle_miou=oracle),))
        for t, (_, oracle) in zip(trials, pairs, strict=True)
    ]
    (part,) = [p for p in sections(search(*seen, allow_oracle=True)) if "against oracle" in p.title]
    assert "Spearman 0.800 over 4 trials" in part.text  # 1 - 6 * 2 / 60
    assert "ORACLE" in part.title
    (few,) = [p for p in sections(search(*seen[:2], allow_oracle=True)) if "against" in p.title]
    assert "would say nothing" in few.text
    assert not [p for p in sections(search(*trials)) if "oracle" in p.title.lower()]


@every_search
def test_every_file_is_written_and_can_be_read_back(tmp_path, made):
    write_report(made, tmp_path / "new")
    write_report(made, tmp_path / "new")  # over the first
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "report.html", "results.csv", "results.json"
    ]  # fmt: skip
    assert read_search(tmp_path / "new" / "results.json") == made
    assert len((tmp_path / "new" / "results.csv").read_text().splitlines()) == 1 + len(made.trials)


# --- TensorBoard


def accumulated(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def plugin_data(events: EventAccumulator, tag: str) -> plugin_data_pb2.HParamsPluginData:
    content = events.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def start_of(events: EventAccumulator) -> plugin_data_pb2.SessionStartInfo:
    return plugin_data(events, metadata.SESSION_START_INFO_TAG).session_start_info


@every_search
def test_every_trial_has_one_event_file(tmp_path, made):
    write_hparams(made, tmp_path)
    write_hparams(made, tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert files == [tmp_path / t.folder / HPARAMS_FILE for t in made.trials]
    for each in made.trials:
        tags = accumulated(tmp_path / each.folder).Tags()["scalars"]
        assert (QUALITY_TAG in tags) == (each.value("quality") is not None)
        assert (ORACLE_TAG in tags) == made.allow_oracle
    if not made.allow_oracle:
        assert not [file for file in files if b"oracle" in file.read_bytes().lower()]


def test_hparams_are_read_back(tmp_path):
    changes = {"optim.lr": 3e-4, "teacher.steps": 3, "mixing": "class", "flip": True}
    write_hparams(search(trial(0, 0.5), trial(7, 0.7, None, 0.6, changes=changes)), tmp_path)
    events = accumulated(tmp_path / "trials/0007")
    start = start_of(events)
    assert start.group_name == "trial 0007"
    assert {k: v.WhichOneof("kind") for k, v in start.hparams.items()} == {
        "optim.lr": "number_value", "teacher.steps": "number_value",
        "mixing": "string_value", "flip": "bool_value",
    }  # fmt: skip
    assert start.hparams["optim.lr"].number_value == 3e-4
    scalars = events.Scalars(QUALITY_TAG)
    assert [(s.step, round(s.value, 6)) for s in scalars] == [(10, 0.7), (20, 0.7), (30, 0.7)]
    assert events.Scalars("hparam/separation")[-1].value == pytest.approx(0.1), "of the best"
    end = plugin_data(events, metadata.SESSION_END_INFO_TAG).session_end_info
    assert end.status == api_pb2.STATUS_SUCCESS
    hand_set = start_of(accumulated(tmp_path / "trials/0000")).hparams
    assert hand_set["optim.lr"].number_value == 1e-3, "what the preset has"


def test_columns_have_a_type_and_room_for_what_the_preset_has(tmp_path):
    mixed = Axis(path="mixed", kind="choice", values=(1, "x"), preset=True)
    made = search(trial(1, 0.5, changes={"mixed": 1}), axes=(*AXES, mixed))
    write_hparams(made, tmp_path)
    events = accumulated(tmp_path / "trials/0001")
    experiment = plugin_data(events, metadata.EXPERIMENT_TAG).experiment
    columns = {info.name: info for info in experiment.hparam_infos}
    assert columns.keys() == set(made.paths)
    weight = columns["losses.a.weight"].domain_interval
    assert (weight.min_value, weight.max_value) == (0, 1)
    assert list(columns["flip"].domain_discrete) == [True, False]
    assert columns["flip"].type == api_pb2.DATA_TYPE_BOOL
    assert columns["mixed"].type == api_pb2.DATA_TYPE_STRING
    assert list(columns["mixed"].domain_discrete) == ["1", "x", "true"]
    assert start_of(events).hparams["mixed"].string_value == "1"
    assert experiment.metric_infos[0].name.tag == QUALITY_TAG


def test_a_trial_that_goes_on_is_added_to(tmp_path):
    file = tmp_path / "trials/0001" / HPARAMS_FILE
    sizes = []
    for made in (
        trial(1, status="running"), trial(1, 0.5, status="running"),
        trial(1, 0.5, 0.6, status="running"), trial(1, 0.5, 0.6),
    ):  # fmt: skip
        before = file.read_bytes() if file.exists() else b""
        write_hparams(search(made), tmp_path)
        sizes.append(len(file.read_bytes()))
        assert file.read_bytes().startswith(before)
    assert sizes == sorted(set(sizes))
    with file.open("ab") as opened:
        opened.truncate(sizes[-1] - 5)  # a kill while it was written
    write_hparams(search(made), tmp_path)
    events = accumulated(tmp_path / "trials/0001")
    assert [s.step for s in events.Scalars(QUALITY_TAG)] == [10, 20]
    write_hparams(search(trial(1, 0.5, status="running")), tmp_path)
    events = accumulated(tmp_path / "trials/0001")
    assert [s.step for s in events.Scalars(QUALITY_TAG)] == [10], "it has gone back"
    assert metadata.SESSION_END_INFO_TAG not in events.Tags()["tensors"]


def test_what_was_written_before_is_passed_over(tmp_path):
    made = search(trial(0, 0.5), trial(1, 0.5, status="running"))
    write_hparams(made, tmp_path)
    (tmp_path / "trials/0000" / HPARAMS_FILE).unlink()
    write_hparams(made.with_trial(trial(1, 0.5, 0.6)), tmp_path, since=made)
    assert not (tmp_path / "trials/0000" / HPARAMS_FILE).exists()
    assert len(accumulated(tmp_path / "trials/0001").Scalars(QUALITY_TAG)) == 2
