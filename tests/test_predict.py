"""Label maps for folders of images: names, formats, and every kind of wrong folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_evaluate import PaletteReader, random_pair
from uda.classes import IGNORE, LABEL_IDS, PALETTE
from uda.data.image_files import ImageFiles
from uda.inference import Inference
from uda.label_maps import FORMATS, map_file, read_prediction
from uda.pictures import overlay
from uda.predict import predict_images
from uda.scoring_arguments import FORMATS as OFFERED
from uda.types import UserError

NAMES = ("aachen/aachen_000000_000019_leftImg8bit.png", "b.png", "deep/er/c.d.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index, name in enumerate(NAMES):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_pair(2 * index)[0]).save(file)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image")
    return tmp_path / "photos"


def expected_label(index: int) -> np.ndarray:
    image, _ = random_pair(2 * index)
    known = {tuple(color): k for k, color in enumerate(PALETTE[:19])}
    return np.array([[known[tuple(p)] for p in row] for row in image], np.uint8)


def test_offered_formats_are_those_that_exist():
    assert tuple(FORMATS) == OFFERED


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("form", FORMATS)
def test_every_image_gets_its_map(photos, tmp_path, form, threads):
    images, out = ImageFiles(photos, without=tmp_path / "out"), tmp_path / "out"
    model, inference = PaletteReader().eval(), Inference(batch_size=2)
    written = predict_images(model, images, range(3), out, form, inference, threads=threads)
    assert written == 3
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    end = FORMATS[form]
    assert files == [
        f"aachen/aachen_000000_000019{end}.png",
        f"b{end}.png",
        f"deep/er/c.d{end}.png",
    ]
    for index, file in enumerate(files):
        label, got = expected_label(index), np.array(Image.open(out / file))
        want = {
            "labelids": np.array(LABEL_IDS, np.uint8)[label],
            "trainids": label,
            "color": PALETTE[label],
            "overlay": overlay(random_pair(2 * index)[0], label),
        }[form]
        assert np.array_equal(got, want), file


def test_maps_are_read_as_what_they_are(photos, tmp_path):
    images = ImageFiles(photos, without=tmp_path / "out")
    for form in ("labelids", "trainids"):
        out = tmp_path / form
        predict_images(PaletteReader().eval(), images, range(3), out, form)
        for index, key in enumerate(images.keys):
            label = expected_label(index)
            found = read_prediction(map_file(out, key, form), form, label.shape)
            assert np.array_equal(found.train_ids, label)


def test_results_inside_the_folder_are_no_images(photos):
    out = photos / "out"
    for _ in range(2):
        images = ImageFiles(photos, without=out)
        assert len(images) == 3
        predict_images(PaletteReader().eval(), images, range(3), out, "color")


def test_results_may_go_above_the_images(photos, tmp_path):
    assert len(ImageFiles(photos, without=tmp_path)) == 3
    with pytest.raises(UserError, match="got the folder of images to write to"):
        ImageFiles(photos, without=photos)


def test_names_that_differ_by_cityscapes_ending_alone(photos, tmp_path):
    Image.new("RGB", (8, 8)).save(photos / "b_leftImg8bit.png")
    with pytest.raises(UserError, match=r"b_leftImg8bit\.png: has the same name as b\.png"):
        ImageFiles(photos, without=tmp_path / "out")


def test_photographs_are_seen_upright(tmp_path):
    picture = Image.fromarray(random_pair(0)[0])
    exif = picture.getexif()
    exif[0x0112] = 6  # held sideways
    (tmp_path / "photos").mkdir()
    picture.save(tmp_path / "photos" / "a.png", exif=exif)
    images = ImageFiles(tmp_path / "photos", without=tmp_path / "out")
    predict_images(PaletteReader().eval(), images, [0], tmp_path / "out", "color")
    with Image.open(tmp_path / "out" / "a_pred_color.png") as drawn:
        assert drawn.size == (picture.height, picture.width)


def test_wrong_folders_are_one_line(tmp_path, photos):
    with pytest.raises(UserError, match=r"nowhere: got no such folder, want a folder of images"):
        ImageFiles(tmp_path / "nowhere", without=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: got no images, want files of \.png, \.jpg"):
        ImageFiles(tmp_path / "empty", without=tmp_path / "out")
    Image.new("RGB", (8, 8)).save(photos / "b.jpg")
    with pytest.raises(UserError, match=r"b\.png: has the same name as b\.jpg, want one of them"):
        ImageFiles(photos, without=tmp_path / "out")


def test_damaged_image_is_named_and_leaves_no_file(tmp_path, photos):
    (photos / "b.png").write_bytes(b"not a picture")
    images, out = ImageFiles(photos, without=tmp_path / "out"), tmp_path / "out"
    with pytest.raises(UserError, match=r"b\.png: does not decode"):
        predict_images(PaletteReader().eval(), images, range(3), out, "labelids")
    left = [path.name for path in out.rglob("*") if path.is_file()]
    assert left == ["aachen_000000_000019_pred_labelIds.png"]
    assert IGNORE not in np.array(Image.open(next(out.rglob("*.png"))))
