"""Studies say what they run, run it once, and turn records into the tables they claim to be."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from tests.studies import _data, _experiments, _results, _runner
from tests.studies._experiments import Experiment, record_of, science
from tests.studies._results import closed, gain, mean, score
from tests.studies.ablation import CAMVID, PARTS, START, STREETS
from tests.studies.contrast import CONTRAST
from tests.studies.strengths import STRENGTHS
from uda.config import Config
from uda.data.augment import Photometric
from uda.data.colours import ColourTransfer
from uda.data.prepare import prepare
from uda.report import write_json

EXPERIMENTS = [*STREETS, *CAMVID, *CONTRAST, *STRENGTHS]
# The levels are switched together.
ALONE = {name: {name} for name in PARTS} | {
    "colours": set(),
    "cameras": set(),
    "fourier": set(),
    "adversarial": {"appearance", "features", "semantics"},
}


def active(config: Config) -> set[str]:
    """Losses and levels that are on, but for the supervised loss that always is."""
    on = {part.name for part in (*config.losses, *config.levels) if not part.weight.is_off}
    return on - {"supervised"}


def test_experiments_have_names_and_configurations_of_their_own():
    assert len({e.name for e in EXPERIMENTS}) == len(EXPERIMENTS)
    runs = {(science(e.plain(0)), e.setting, e.is_oracle) for e in EXPERIMENTS}
    assert len(runs) == len(EXPERIMENTS)


@pytest.mark.parametrize("name", PARTS)
def test_only_means_only(name):
    (experiment,) = [e for e in STREETS if e.name == f"only_{name}"]
    config = experiment.config(0)
    assert active(config) == ALONE[name]
    assert (config.augment.colours.probability > 0) == (name == "colours")
    assert (config.augment.fourier.probability > 0) == (name == "fourier")
    assert (config.augment.source.noise_probability > 0) == (name == "cameras")
    assert (config.evaluated, config.teacher.batch_norm) == ("teacher", "target")


def test_without_means_all_but_one():
    by_name = {e.name: e.config(0) for e in STREETS}
    assert active(by_name["full"]) == set()
    assert active(by_name["with_contrastive"]) == {"contrastive"}
    assert active(by_name["with_self_training"]) == {"self_training"}
    assert active(by_name["whole"]) == set()
    assert by_name["whole"].steps == by_name["oracle"].steps
    assert active(by_name["with_masked"]) == {"masked"}
    assert active(by_name["with_adversarial"]) == ALONE["adversarial"]
    looks = by_name["full"].augment
    assert by_name["only_cameras"].augment == dataclasses.replace(
        looks, colours=ColourTransfer(probability=0.0)
    )
    assert by_name["only_colours"].augment.colours == looks.colours
    assert by_name["only_colours"].augment.source == Photometric()
    assert by_name["with_fourier"].augment.fourier.probability > 0
    assert by_name["without_rare_classes"].data.source_sampling.kind == "uniform"


def test_all_of_a_seed_start_from_one_network():
    starts = {e.config(3).model.pretrained for e in STREETS if e.start}
    assert starts == {str(START.network(3))}
    assert START.config(3).model.pretrained == "package"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(_experiments, "KEPT", tmp_path)
    monkeypatch.setattr(_results, "KEPT", tmp_path)
    return tmp_path


def write(folder, experiment: Experiment, seed: int, miou: float, data: str = "d") -> None:
    values = {
        **experiment.plain(seed),
        "setting": experiment.setting,
        "is_oracle": experiment.is_oracle,
        "seed": seed,
        "data": {"source": data},
        "miou": miou,
    }
    write_json(folder / experiment.file(seed), values)


def test_a_record_counts_for_its_own_configuration_alone(kept):
    experiment = Experiment(name="x", preset="demo_source_only")
    other = Experiment(name="x", preset="demo_source_only", changes={"optim.lr": 1e-3})
    write(kept, experiment, 1, 0.5)
    assert record_of(experiment, 1, (kept,))["miou"] == 0.5
    assert record_of(experiment, 2, (kept,)) is None
    assert record_of(other, 1, (kept,)) is None


def test_a_record_outlives_what_came_to_the_config_since(kept):
    experiment = Experiment(name="x", preset="demo_full")
    write(kept, experiment, 0, 0.5)
    file = kept / experiment.file(0)
    record = json.loads(file.read_text())
    del record["config"]["losses"]["entropy"], record["config"]["augment"]["colours"]
    without = Experiment(name="x", preset="demo_full", changes={"augment.colours.probability": 0.0})
    write_json(file, record)
    assert record_of(without, 0, (kept,)) is not None
    assert record_of(experiment, 0, (kept,)) is None, "colours are on in it"
    record["config"]["augment"]["unheard"] = 1
    write_json(file, record)
    assert record_of(without, 0, (kept,)) is None


def test_a_record_is_that_of_its_start_too(kept, monkeypatch):
    first = Experiment(name="first", preset="demo_source_only")
    other = Experiment(name="first", preset="demo_source_only", changes={"steps": 7})
    going_on, from_other = (Experiment(name="x", preset="demo", start=s) for s in (first, other))
    write(kept, going_on, 0, 0.5)
    assert record_of(from_other, 0, (kept,)) is None
    monkeypatch.setattr(_experiments, "FOLDER", kept / "elsewhere")
    assert record_of(going_on, 0, (kept,)) is not None, "wherever the network lies"


@dataclasses.dataclass
class Log:
    """What stands in for training: a file of the runs in order, and a run that fails."""

    file: Path

    def carry_out(self, run, place):
        experiment, seed = run
        if experiment.name == "broken":
            raise ValueError("broken on purpose")
        with self.file.open("a") as file:
            file.write(f"{experiment.name} {seed}\n")


@pytest.mark.slow
def test_runs_in_processes_wait_for_their_start_and_survive_a_failure(tmp_path):
    log = Log(tmp_path / "log")
    start = Experiment(name="start", preset="demo")
    pupils = [Experiment(name=f"x{i}", preset="demo", start=start) for i in range(3)]
    runs = [*((p, 1) for p in pupils), (start, 1), (Experiment(name="broken", preset="demo"), 1)]
    place = _runner.Place(command="make", device="cpu")
    with pytest.raises(SystemExit, match="1 runs failed: broken 1"):
        _runner.in_processes(runs, place, 2, math.inf, log.carry_out)
    lines = log.file.read_text().splitlines()
    assert lines[0] == "start 1"
    assert sorted(lines[1:]) == ["x0 1", "x1 1", "x2 1"]


def test_means_deviations_and_gaps(kept):
    low, high, ours = (
        Experiment(name=name, preset="demo_source_only") for name in ("low", "high", "ours")
    )
    for seed, values in enumerate([(0.2, 0.5, 0.4), (0.4, 0.7, 0.5)]):
        for experiment, value in zip((low, high, ours), values, strict=True):
            write(kept, experiment, seed, value)
    runs = _results.records([low, high, ours])
    assert mean(runs, "ours") == pytest.approx(45.0)
    assert closed(runs, "ours", "low", "high") == "50"
    assert score(runs, "ours") == "45.0 ± 7.1 (2 of 3 seeds)"
    assert gain(runs, "ours", "low") == "+15.0 ± 7.1"
    record = json.loads((kept / low.file(0)).read_text())
    assert record["miou"] == 0.2


def test_seeds_that_only_some_have_run_do_not_count(kept):
    low, high, ours = (
        Experiment(name=name, preset="demo_source_only") for name in ("low", "high", "ours")
    )
    for seed, (a, b) in enumerate([(0.2, 0.5), (0.6, 0.7)]):
        write(kept, low, seed, a)
        write(kept, high, seed, b)
    write(kept, ours, 1, 0.65)
    runs = _results.records([low, high, ours])
    assert gain(runs, "ours", "low") == "+5.0"
    assert closed(runs, "ours", "low", "high") == "50"
    assert gain(runs, "ours", "never") == closed(runs, "ours", "low", "never") == ""


def test_records_of_other_data_are_not_averaged(kept):
    experiment = Experiment(name="x", preset="demo_source_only")
    write(kept, experiment, 0, 0.5)
    write(kept, experiment, 1, 0.5, data="other")
    with pytest.raises(ValueError, match=r"x-1\.json: made on other data"):
        _results.records([experiment])


def test_an_oracles_record_is_no_baseline(kept):
    baseline = Experiment(name="x", preset="demo_source_only")
    write(kept, dataclasses.replace(baseline, is_oracle=True), 0, 0.5)
    assert record_of(baseline, 0, (kept,)) is None


def test_a_start_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.setattr(_experiments, "FOLDER", tmp_path)
    start = Experiment(name="start", preset="demo")
    pupil = Experiment(name="pupil", preset="demo", start=start)
    assert _runner.with_starts([(pupil, 0), (start, 0)]) == [(start, 0), (pupil, 0)]


def test_a_record_names_the_data(tmp_path):
    folder = tmp_path / "shards"
    manifest = prepare("streets", "game", folder, "train", count=1, size=(32, 16), progress=False)
    assert _data.digests({"source": folder}) == {"source": manifest.digest[:12]}
