"""The verb `score`: in one process and by actors, the same to the bit; mistakes in one line."""

import json
import shutil
from pathlib import Path

import pytest

from tests.camvid_like import make_shards, write_camvid
from tests.edited_shards import edit_shards, with_column
from tests.small_checkpoint import write_checkpoint
from tests.test_main import refused
from tests.test_observe_rows import unlike_labels
from tests.test_quality_statistics import added
from tests.tiny import shards
from uda.__main__ import main
from uda.checkpoint import load_model
from uda.data.prepare import prepare
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.inference import PLAIN, ready
from uda.observe import observe_source, observe_target
from uda.quality import MEASURES, Evidence, SourceStatistics
from uda.quality.score import GUARDS, WEIGHTS, Score, score
from uda.quality.subset import chosen_images
from uda.report import json_text


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards("game"), shards("camera")  # rendered here, where no test waits for it
    return write_checkpoint(tmp_path_factory.mktemp("score") / "checkpoint")


def words(checkpoint: Path, *more: object, source="", target="") -> list[str]:
    folders = ["--source", source or shards("game"), "--target", target or shards("camera")]
    return ["score", *map(str, [checkpoint, *folders, *more])]


def expected_score(checkpoint: Path, num_images: int) -> Score:
    """Of the images that are chosen, one after the other."""
    model = ready(load_model(checkpoint), PLAIN, "cpu")
    numbers = chosen_images(8, num_images)
    source, target = (ShardRows(shards(d), labels=d == "game") for d in ("game", "camera"))
    return score(
        Evidence(
            source=sum(observe_source(model, source, numbers), SourceStatistics()),
            target=added(list(observe_target(model, target, numbers))),
        )
    )


def seen(look: str, num_images: int) -> dict[str, object]:
    """What the score says of the shards that it was made from."""
    folder = shards(look)
    digest = open_shards(folder).manifest.digest
    return {"name": folder.name, "digest": digest, "images": num_images, "total": 8}


def test_the_verb_prints_the_quality_and_writes_it(checkpoint, tmp_path, capsys):
    file = tmp_path / "new" / "score.json"
    assert main(words(checkpoint, "--images", 3, "--json", file)) == 0
    expected = expected_score(checkpoint, 3)
    written = json.loads(file.read_text())
    where = {name: written.pop(name) for name in ("checkpoint", "source", "target")}
    assert written == json.loads(json_text(expected.json()))
    assert where == {"checkpoint": str(checkpoint), "source": seen("game", 3),
                     "target": seen("camera", 3)}  # fmt: skip
    assert [path.name for path in file.parent.iterdir()] == ["score.json"], "nothing half-written"
    streams = capsys.readouterr()
    lines = streams.out.splitlines()
    assert lines[0].split() == ["quality", f"{expected.quality:.3f}"]
    used = [line.split()[0] for line in lines if line.endswith("in quality")]
    assert used == [*WEIGHTS, *GUARDS]
    assert next(line for line in lines if line.startswith("agreement")).split()[1] == "-"
    assert set(MEASURES) <= {line.split()[0] for line in lines}
    names = [shards(look).name for look in ("game", "camera")]
    assert f"images: source {names[0]}: 3 of 8, target {names[1]}: 3 of 8" in lines
    assert "3/3" in streams.err, "progress is shown on stderr"


def test_all_images_are_looked_at_where_there_are_no_more(checkpoint, tmp_path, capsys):
    assert main(words(checkpoint, "--json", tmp_path / "score.json")) == 0
    assert "8/8" in capsys.readouterr().err
    written = json.loads((tmp_path / "score.json").read_text())
    assert written["quality"] == expected_score(checkpoint, 100).quality
    assert (written["source"], written["target"]) == (seen("game", 8), seen("camera", 8))


def test_shards_are_named_alike_wherever_they_lie(checkpoint, tmp_path, monkeypatch):
    """The folder's name and the digest; a relative path, even a point, tells nobody else."""
    folder = shutil.copytree(shards("camera"), tmp_path / shards("camera").name)
    monkeypatch.chdir(folder)
    file = tmp_path / "score.json"
    assert main(words(checkpoint, "--images", 1, "--json", file, target=".")) == 0
    assert json.loads(file.read_text())["target"] == seen("camera", 1)
    assert str(tmp_path) not in file.read_text().replace(str(checkpoint), "")


def test_labels_of_the_target_make_no_difference_to_the_score(checkpoint, tmp_path):
    labelled = make_shards(tmp_path, count=2, height=50, width=44)
    written = set()
    for folder in (labelled, *unlike_labels(labelled, tmp_path)):
        file = tmp_path / "score.json"
        assert main(words(checkpoint, "--json", file, source=labelled, target=folder)) == 0
        score_alone = json.loads(file.read_text())
        assert score_alone.pop("target")["name"] == folder.name
        written.add(json.dumps(score_alone))
    assert len(written) == 1


def test_the_latest_checkpoint_of_a_run_is_named(checkpoint, tmp_path):
    latest = shutil.copytree(checkpoint, tmp_path / "run" / "step-0000007")
    file = tmp_path / "score.json"
    assert main(words(tmp_path / "run", "--images", 1, "--json", file)) == 0
    assert json.loads(file.read_text())["checkpoint"] == str(latest)


class TestMistakes:
    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            (["--images", "0"], "--images: got 0, want 1 or more"),
            (["--images", "-3"], "--images: got -3, want 1 or more"),
            (["--json", "."], "--json: got ., which is a folder; want a file"),
            (["--json", "pyproject.toml/x.json"], "is no folder that can be written to"),
        ],
    )
    def test_values_that_make_no_sense(self, checkpoint, capfd, more, expected):
        assert expected in refused(words(checkpoint, *more), capfd)

    def test_a_number_that_is_none(self, checkpoint, capfd):
        with pytest.raises(SystemExit) as ended:
            main(words(checkpoint, "--images", "many"))
        assert ended.value.code == 2
        assert "invalid int value: 'many'" in capfd.readouterr().err

    @pytest.mark.parametrize("role", ["source", "target"])
    def test_shards_that_are_not_there(self, checkpoint, tmp_path, capfd, role):
        file = tmp_path / "score.json"
        call = words(checkpoint, "--json", file, **{role: tmp_path / "nothing"})
        assert "nothing: got no such folder" in refused(call, capfd)
        assert not file.exists()

    def test_a_checkpoint_that_is_not_there(self, tmp_path, capfd):
        assert "nowhere: no such folder" in refused(words(tmp_path / "nowhere"), capfd)

    def test_a_checkpoint_that_is_damaged(self, checkpoint, tmp_path, capfd):
        damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
        (damaged / "model.safetensors").write_bytes(b"no weights")
        assert "model.safetensors: cannot be read" in refused(words(damaged), capfd)

    def test_a_source_without_labels(self, checkpoint, tmp_path, capfd):
        images = write_camvid(tmp_path / "raw") / "train"
        prepare("folder", str(images), tmp_path / "shards", "train", progress=False)
        call = words(checkpoint, source=tmp_path / "shards")
        assert "got shards without labels, want labelled ones" in refused(call, capfd)

    def test_a_source_image_without_label(self, checkpoint, tmp_path, capfd):
        def edit(table):
            return with_column(table, "label", [*table["label"].to_pylist()[:-1], None])

        folder = shutil.copytree(shards("game"), tmp_path / "edited")
        edit_shards(folder, edit)
        line = refused(words(checkpoint, source=folder), capfd)
        assert "has no label, want labelled data here" in line

    def test_a_target_image_that_does_not_decode(self, checkpoint, tmp_path, capfd):
        def edit(table):
            return with_column(table, "image", [b"no image"] * len(table))

        folder = shutil.copytree(shards("camera"), tmp_path / "edited")
        edit_shards(folder, edit)
        file = tmp_path / "score.json"
        call = words(checkpoint, "--images", 2, "--json", file, target=folder)
        assert "does not decode" in refused(call, capfd)
        assert not file.exists()


@pytest.mark.parametrize("verb", ["uda", "cluster"])
def test_help_has_an_example(verb, capfd):
    if verb == "cluster":
        from cluster.__main__ import main as verb_main
    else:
        verb_main = main
    with pytest.raises(SystemExit) as ended:
        verb_main(["score", "--help"])
    assert ended.value.code == 0
    assert "uda score runs/demo/adapted --source" in capfd.readouterr().out


# --- on a cluster ------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_any_number_of_actors_scores_as_one_process(ray_local, checkpoint, tmp_path):
    from cluster.pool import ActorPool
    from cluster.score import score_checkpoint

    assert main(words(checkpoint, "--images", 6, "--json", tmp_path / "score.json")) == 0
    alone = json.loads((tmp_path / "score.json").read_text())
    for actors in (1, 3):
        with ActorPool(actors=actors) as pool:
            result = score_checkpoint(
                checkpoint, shards("game"), shards("camera"), images=6, pool=pool, progress=False
            )
        assert alone == alone | json.loads(json_text(result.json())), "to the last bit"


@pytest.mark.ray
@pytest.mark.slow
def test_the_verb_on_a_cluster(ray_local, checkpoint, tmp_path, capsys):
    from cluster.__main__ import main as uda

    assert uda(words(checkpoint, "--images", 0)) == 2
    assert "--images: got 0" in capsys.readouterr().err
    files = [tmp_path / name for name in ("alone.json", "cluster.json")]
    assert main(words(checkpoint, "--images", 5, "--json", files[0])) == 0
    assert uda(words(checkpoint, "--images", 5, "--json", files[1], "--actors", 2)) == 0
    assert "in quality" in capsys.readouterr().out
    assert files[0].read_text() == files[1].read_text()
