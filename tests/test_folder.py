import json

import numpy as np
import pytest
from PIL import Image

from tests.raw_layouts import (
    FOLDER_IDS,
    stripes,
    write_folder,
    write_grey,
    write_image,
    write_palette,
)
from uda.data.folder import Folder
from uda.data.prepare import prepare
from uda.label_maps import prediction_files
from uda.types import UserError

FOLDER = Folder()
KEYS = ["drive_0/000", "drive_0/002", "drive_1/001", "drive_1/003"]


def keys(root, split="train"):
    return FOLDER.keys(str(root), split)


def load(root, key=KEYS[0], split="train"):
    return FOLDER.load(str(root), split, key)


def write_mapping(root, text):
    (root / "mapping.json").write_text(text if isinstance(text, str) else json.dumps(text))


class TestLayouts:
    def test_split_folders(self, tmp_path):
        write_folder(tmp_path, "train", count=1)
        write_folder(tmp_path, "val_night", count=2)
        assert FOLDER.splits(str(tmp_path)) == ("train", "val_night")
        assert keys(tmp_path, "val_night") == ["drive_0/000", "drive_1/001"]
        with pytest.raises(UserError, match=r"got val, want one of \['train', 'val_night'\]"):
            keys(tmp_path, "val")

    def test_train_is_everything_where_no_folder_is_called_a_split(self, tmp_path):
        root = write_folder(tmp_path, "")
        assert FOLDER.splits(str(root)) == ("train", "drive_0", "drive_1")
        assert keys(root) == KEYS
        assert load(root, "drive_1/001").source_path == "images/drive_1/001.jpg"
        assert keys(root, "drive_1") == ["001", "003"]
        assert np.array_equal(load(root, "003", "drive_1").label, load(root, KEYS[3]).label)

    def test_train_is_not_everything_where_validation_images_may_be_in_it(self, tmp_path):
        write_folder(tmp_path, "validation")
        write_folder(tmp_path, "mine")
        with pytest.raises(UserError, match=r"got train, want one of \['mine', 'validation'\]"):
            keys(tmp_path)

    def test_a_folder_full_of_images(self, tmp_path):
        for name in ("a.jpg", "b.JPG", "c.jpeg", "deep/er/d.PNG", "e.webp", "f.bmp", "g.tiff"):
            write_image(tmp_path / name, [1, 40, 56])
        (tmp_path / "notes.txt").touch()
        (tmp_path / ".thumbnails").mkdir()
        write_image(tmp_path / ".thumbnails" / "a.jpg", [1, 4, 5])
        assert keys(tmp_path) == ["a", "b", "c", "deep/er/d", "e", "f", "g"]
        for key in keys(tmp_path):
            assert load(tmp_path, key).label is None
            assert load(tmp_path, key).image.shape == (40, 56, 3)
        assert load(tmp_path, "deep/er/d").source_path == "deep/er/d.PNG"
        assert FOLDER.class_list(str(tmp_path)) == "cityscapes19"

    def test_a_split_may_be_without_labels(self, tmp_path):
        write_folder(tmp_path, "train")
        write_folder(tmp_path, "test", labels="")
        (tmp_path / "mapping.json").write_text(json.dumps({"ids": FOLDER_IDS}))
        assert load(tmp_path, split="test").label is None
        assert load(tmp_path).label is not None
        assert keys(tmp_path, "test") == KEYS

    def test_labels_that_are_divided_in_another_way_are_not_passed_over(self, tmp_path):
        root = write_folder(tmp_path, "train")
        (root / "labels" / "train").rename(root / "labels" / "drive")
        with pytest.raises(UserError, match=r"labels: got no folder train .*; have \['drive'\]"):
            keys(root)

    def test_labels_without_a_folder_of_images(self, tmp_path):
        root = write_folder(tmp_path)
        (root / "images").rename(root / "pictures")
        with pytest.raises(UserError, match="got a folder labels, want a folder images beside it"):
            keys(root)

    def test_two_images_of_one_name(self, tmp_path):
        root = write_folder(tmp_path)
        write_image(root / "images" / "train" / "drive_0" / "000.PNG", [1, 40, 56])
        assert keys(root) == KEYS
        with pytest.raises(UserError, match=r"000.jpg: has the same name as 000.PNG"):
            load(root)

    def test_names_that_are_no_text(self, tmp_path):
        root = write_folder(tmp_path, "")
        file = root / "images" / "drive_0" / b"stra\xdfe.jpg".decode(errors="surrogateescape")
        file.touch()
        with pytest.raises(UserError, match=r"got the file name 'drive_0/stra\\udcdfe'") as caught:
            keys(root)
        str(caught.value).encode()

    def test_a_link_to_a_folder_is_followed(self, tmp_path):
        write_folder(tmp_path / "disk")
        (tmp_path / "root" / "images").mkdir(parents=True)
        link = tmp_path / "root" / "images" / "train"
        link.symlink_to(tmp_path / "disk" / "images" / "train")
        assert keys(tmp_path / "root") == KEYS

    def test_an_image_is_turned_upright(self, tmp_path):
        """Orientation 6: the camera was turned, so the first row becomes the last column."""
        noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(noise).save(tmp_path / "a.png", exif=exif)
        image = load(tmp_path, "a").image
        assert image.shape == (56, 40, 3)
        assert np.array_equal(image[:, -1], noise[0])

    def test_predictions_are_found_by_the_last_part_of_a_key(self, tmp_path):
        for key in KEYS:
            (tmp_path / f"{key.rpartition('/')[2]}.png").touch()
        assert prediction_files(tmp_path, KEYS)["drive_1/003"] == tmp_path / "003.png"


class TestLabels:
    def test_names_numbers_and_ignore(self, tmp_path):
        root = write_folder(tmp_path)
        write_mapping(root, {"ids": {"0": "rider", "1": 18, "7": 255, "200": "ignore", "255": 0}})
        raw = np.array(Image.open(root / "labels" / "train" / "drive_0" / "000.png"))
        want = np.select([raw == 0, raw == 1, raw == 255], [12, 18, 0], 255)
        assert np.array_equal(load(root).label, want)

    def test_a_palette_image_is_read_by_its_indices(self, tmp_path):
        root = write_folder(tmp_path)
        grey = load(root).label
        ids = np.array(Image.open(root / "labels" / "train" / "drive_0" / "000.png"))
        write_palette(root / "labels" / "train" / "drive_0" / "000.png", ids)
        assert np.array_equal(load(root).label, grey)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
    def test_colours(self, tmp_path, mode):
        root = write_folder(tmp_path, labels="colors")
        file = root / "labels" / "train" / "drive_0" / "000.png"
        image = Image.open(file)
        colors = np.array(image)
        image.convert(mode, palette=Image.Palette.ADAPTIVE).save(file)
        want = np.full((40, 56), 99)
        for color, train_id in (((128, 64, 128), 0), ((0, 0, 142), 13), ((0, 0, 0), 255)):
            want[(colors == color).all(axis=-1)] = train_id
        assert np.array_equal(load(root).label, want)

    def test_unknown_colours_are_named(self, tmp_path):
        root = write_folder(tmp_path, labels="colors")
        file = root / "labels" / "train" / "drive_0" / "000.png"
        colors = np.array(Image.open(file))
        colors[0, :2], colors[1, 0] = (255, 1, 2), (0, 0, 1)
        Image.fromarray(colors).save(file)
        with pytest.raises(UserError, match=r"#000001, #ff0102 at 3 pixels, .* mapping.json"):
            load(root)

    @pytest.mark.parametrize("labels", ["ids", "colors"])
    def test_a_star_ignores_all_others(self, tmp_path, labels):
        root = write_folder(tmp_path, labels=labels)
        before = load(root).label
        first = "0" if labels == "ids" else "#804080"
        write_mapping(root, {"ids": {first: "road", "*": "ignore"}})
        assert np.array_equal(load(root).label, np.where(before == 0, 0, 255))

    def test_the_wrong_kind_of_keys_for_the_files(self, tmp_path):
        root = write_folder(tmp_path)
        write_mapping(root, {"ids": {"#000000": "road"}})
        with pytest.raises(UserError, match=r"000.png: mode: got L, want 8-bit colours"):
            load(root)

    def test_a_jpeg_is_no_label(self, tmp_path):
        root = write_folder(tmp_path)
        file = root / "labels" / "train" / "drive_0" / "000.png"
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()
        assert keys(root) == KEYS
        with pytest.raises(UserError, match=r"drive_0/000.jpg: label: got a JPEG"):
            load(root)

    def test_class_list_and_settings_are_those_of_the_mapping(self, tmp_path):
        root = write_folder(tmp_path)
        assert FOLDER.class_list(str(root)) == "cityscapes19"
        before = FOLDER.settings(str(root))
        write_mapping(root, {"class_list": "camvid11", "ids": FOLDER_IDS})
        assert FOLDER.class_list(str(root)) == "camvid11"
        assert FOLDER.settings(str(root)) != before

    def test_another_mapping_is_another_folder_of_shards(self, tmp_path):
        root = write_folder(tmp_path / "raw")
        out = tmp_path / "shards"
        prepare("folder", str(root), out, "train", progress=False)
        prepare("folder", str(root), out, "train", progress=False)
        write_mapping(root, {"ids": FOLDER_IDS | {"1": "bus"}})
        with pytest.raises(UserError, match="holds other shards"):
            prepare("folder", str(root), out, "train", progress=False)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "Expecting property name"),
            ("[1]", 'want {"ids": '),
            ('{"ids": [0]}', 'want {"ids": '),
            ('{"ids": {}}', "ids: got none"),
            ('{"ids": {"*": "ignore"}}', "ids: got none"),
            ('{"ids": {"0": "road"}, "class": 1}', "got 'class', want only 'class_list' and 'ids'"),
            ('{"ids": {"0": "road"}, "class_list": "coco"}', r"class_list: got 'coco', have \['c"),
            ('{"ids": {"0": "road"}, "class_list": ["a"]}', r"class_list: got \['a'\], have"),
            ('{"ids": {"0": "raod"}}', "got 'raod' for '0', want .* road, sidewalk, .*bicycle"),
            ('{"ids": {"0": 19}}', "got 19 for '0', want a trainId"),
            ('{"ids": {"0": true}}', "got True for '0'"),
            ('{"ids": {"0": null}}', "got None for '0'"),
            ('{"ids": {"0": ["road"]}}', r"got \['road'\] for '0'"),
            ('{"ids": {"256": "road"}}', "got '256', want 0 to 255"),
            ('{"ids": {"-1": "road"}}', "got '-1'"),
            ('{"ids": {"07": "road"}}', "got '07'"),
            ('{"ids": {"road": 0}}', "got 'road', want 0 to 255, a colour such as"),
            ('{"ids": {"#80408": "road"}}', "got '#80408'"),
            ('{"ids": {"0": "road", "0": "car"}}', "got '0' twice"),
            ('{"ids": {"#00008E": "road", "#00008e": "car"}}', "got one colour twice"),
            ('{"ids": {"0": "road", "#000000": "car"}}', "both numbers and colours"),
            ('{"ids": {"0": "road", "*": "car"}}', r"got 'car' for '\*', want 'ignore'"),
        ],
    )
    def test_mistakes_in_the_mapping(self, tmp_path, text, message):
        root = write_folder(tmp_path)
        write_mapping(root, text)
        for call in (keys, load, lambda root: FOLDER.class_list(str(root))):
            with pytest.raises(UserError, match=rf"mapping.json: .*{message}") as caught:
                call(root)
            assert "\n" not in str(caught.value)

    def test_labels_without_a_mapping(self, tmp_path):
        root = write_folder(tmp_path)
        (root / "mapping.json").unlink()
        with pytest.raises(UserError, match=r"mapping.json: is missing: it says what the labels'"):
            keys(root)
        (root / "mapping.json").write_bytes(b"\xff\xfe")
        with pytest.raises(UserError, match=r"mapping.json: .*can't decode"):
            keys(root)


def test_an_orphan_deep_in_the_labels_is_counted(tmp_path):
    root = write_folder(tmp_path)
    write_grey(root / "labels" / "train" / "drive_9" / "x.png", stripes([0, 1], 40, 56))
    assert keys(root) == [*KEYS, "drive_9/x"]
    with pytest.raises(UserError, match=r"drive_9/x.png: has no image, want .*drive_9/x.png"):
        load(root, "drive_9/x")
