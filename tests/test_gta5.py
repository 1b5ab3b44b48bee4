import numpy as np
import pytest
from PIL import Image

from tests.raw_layouts import stripes, write_grey, write_gta5
from uda.data.gta5 import GTA5
from uda.types import UserError

GTA = GTA5()


def touch_frames(root, numbers):
    """Images as empty files: names are all that `keys` looks at, and those of labels count too."""
    for kind in ("images", "labels"):
        (root / kind).mkdir()
    for number in numbers:
        (root / ("images" if number % 3 else "labels") / f"{number:05d}.png").touch()
    return root


def write_lists(root, **lists):
    """A MATLAB file as the authors': columns of numbers."""
    from scipy.io import savemat

    savemat(root / "split.mat", {name: np.array([ids]).T for name, ids in lists.items()})


def keys(root, split):
    return GTA.keys(str(root), split)


def test_the_licence_plate_is_ignored_as_its_palette_is(tmp_path):
    root = write_gta5(tmp_path, count=1)
    with Image.open(root / "labels" / "00001.png") as image:
        assert image.mode == "P"
        assert set(np.unique(image)) == set(range(35))
        assert not np.isin(np.unique(image.convert("L")), range(35)).any()
    label = GTA.load(str(root), "all", "00001").label
    assert (label[np.array(Image.open(root / "labels" / "00001.png")) == 34] == 255).all()


def test_grey_labels_hold_the_same_ids(tmp_path):
    root = write_gta5(tmp_path, count=1)
    palette = GTA.load(str(root), "all", "00001").label
    write_grey(root / "labels" / "00001.png", stripes(range(35), 40, 56, 1))
    assert np.array_equal(GTA.load(str(root), "all", "00001").label, palette)


def test_our_splits_are_blocks_that_cover_all_frames_once(tmp_path):
    numbers = [*range(1, 2002), 24966]
    root = touch_frames(tmp_path, numbers)
    parts = {split: [int(key) for key in keys(root, split)] for split in ("train", "val", "test")}
    assert parts["train"] == [*range(1, 1001), 2001, 24966]
    assert parts["val"] == list(range(1001, 1501))
    assert parts["test"] == list(range(1501, 2001))
    assert [int(key) for key in keys(root, "all")] == numbers


def test_our_splits_have_about_the_sizes_of_the_official_ones(tmp_path):
    root = touch_frames(tmp_path, range(1, 24967))
    sizes = [len(keys(root, split)) for split in ("train", "val", "test", "all")]
    assert sizes == pytest.approx([12403, 6382, 6181, 24966], rel=0.07)
    assert sum(sizes[:3]) == sizes[3] == 24966


def test_official_lists_are_used_where_they_lie(tmp_path):
    root = touch_frames(tmp_path, range(1, 11))
    write_lists(root, trainIds=[9, 2, 4], valIds=[1, 99], testIds=[3, 24966])
    assert keys(root, "train") == ["00002", "00004", "00009"]
    assert keys(root, "val") == ["00001"]  # 99 was not downloaded
    assert keys(root, "test") == ["00003"]
    assert len(keys(root, "all")) == 10


def test_a_split_without_frames(tmp_path):
    root = touch_frames(tmp_path, range(1, 11))
    with pytest.raises(UserError, match="no frame of val among 10; have 00001 to 00010"):
        keys(root, "val")


def test_a_damaged_or_strange_split_file(tmp_path):
    root = touch_frames(tmp_path, range(1, 11))
    write_lists(root, trainIds=[1], testIds=[2])
    with pytest.raises(UserError, match=r"got no variable valIds; have \['testIds', 'trainIds'\]"):
        keys(root, "val")
    data = (root / "split.mat").read_bytes()
    for damaged in (b"", b"no MATLAB file" * 20, data[:150], data[:-10]):
        (root / "split.mat").write_bytes(damaged)
        with pytest.raises(UserError, match=r"split.mat: does not read") as caught:
            keys(root, "train")
        assert "\n" not in str(caught.value)


def test_listing_looks_at_no_file(tmp_path, monkeypatch):
    """25 000 frames on a network drive: one request for each of the two folders."""
    root = touch_frames(tmp_path, range(1, 200))
    looked = []
    stat = type(root).stat
    monkeypatch.setattr(
        type(root), "stat", lambda path, **kw: looked.append(path) or stat(path, **kw)
    )
    assert len(keys(root, "all")) == 199
    assert not [path for path in looked if path.suffix == ".png"]
