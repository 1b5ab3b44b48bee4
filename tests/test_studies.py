"""Studies say what they run, run it once, and turn records into the tables they claim to be."""

import json

import pytest

from tests.studies import _experiments, _results
from tests.studies._experiments import Experiment, record_of
from tests.studies._results import closed, mean, score
from tests.studies.ablation import CAMVID, PARTS, START, STREETS
from tests.studies.contrast import CONTRAST
from tests.studies.strengths import STRENGTHS
from uda.config import Config
from uda.report import write_json
from uda.tree import to_plain

EXPERIMENTS = [*STREETS, *CAMVID, *CONTRAST, *STRENGTHS]
# The levels are switched together, and the statistics of the target are no loss.
ALONE = {name: {name} for name in PARTS} | {
    "target_statistics": set(),
    "colours": set(),
    "fourier": set(),
    "adversarial": {"appearance", "features", "semantics"},
}


def active(config: Config) -> set[str]:
    """Losses and levels that are on, but for the supervised loss that always is."""
    on = {part.name for part in (*config.losses, *config.levels) if not part.weight.is_off}
    return on - {"supervised"}


def test_experiments_have_names_and_configurations_of_their_own():
    assert len({e.name for e in EXPERIMENTS}) == len(EXPERIMENTS)
    same_but_for_the_data = {"oracle": "source_only", "camvid_oracle": "camvid_source_only"}
    digests = {
        e.config(0).digest(): e.name for e in EXPERIMENTS if e.name not in same_but_for_the_data
    }
    assert len(digests) == len(EXPERIMENTS) - len(same_but_for_the_data)


@pytest.mark.parametrize("name", PARTS)
def test_only_means_only(name):
    (experiment,) = [e for e in STREETS if e.name == f"only_{name}"]
    config = experiment.config(0)
    assert active(config) == ALONE[name]
    assert (config.augment.colours.probability > 0) == (name == "colours")
    assert (config.augment.fourier.probability > 0) == (name == "fourier")
    taught = name in ("self_training", "masked", "target_statistics")
    assert config.evaluated == ("teacher" if taught else "student")


def test_without_means_all_but_one():
    by_name = {e.name: e.config(0) for e in STREETS}
    full = active(by_name["full"])
    assert active(by_name["without_contrastive"]) == full - {"contrastive"}
    assert active(by_name["without_self_training"]) == full - {"self_training"}
    assert active(by_name["without_masked"]) == full - {"masked"}
    assert active(by_name["without_adversarial"]) == full - ALONE["adversarial"]
    assert by_name["without_colours"].augment.colours.probability == 0
    assert by_name["without_fourier"].augment.fourier.probability == 0
    assert by_name["without_rare_classes"].data.source_sampling.kind == "uniform"


def test_all_of_a_seed_start_from_one_network():
    starts = {e.config(3).model.pretrained for e in STREETS}
    assert starts == {str(START.network(3))}
    assert START.config(3).model.pretrained == "package"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(_experiments, "KEPT", tmp_path)
    monkeypatch.setattr(_results, "KEPT", tmp_path)
    return tmp_path


def write(folder, experiment: Experiment, seed: int, miou: float) -> None:
    values = {"config": to_plain(experiment.config(seed)), "miou": miou}
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


def test_means_deviations_and_gaps(kept):
    low, high, ours = (
        Experiment(name=name, preset="demo_source_only") for name in ("low", "high", "ours")
    )
    for seed, values in enumerate([(0.2, 0.5, 0.4), (0.4, 0.7, 0.5)]):
        for experiment, value in zip((low, high, ours), values, strict=True):
            write(kept, experiment, seed, value)
    runs = _results.records([low, high, ours])
    assert mean(runs, "ours") == pytest.approx(45.0)
    assert closed(runs, "ours", "low", "high") == pytest.approx(50.0)
    assert score(runs, "ours") == "45.0 ± 7.1 (2 of 3 seeds)"
    record = json.loads((kept / low.file(0)).read_text())
    assert record["miou"] == 0.2
