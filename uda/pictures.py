"""Label maps as colours, colours over photographs, sheets of pictures with titles and legend."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from uda.classes import CLASS_LISTS, IGNORE, PALETTE, ClassList
from uda.types import UserError

Picture = UInt8[np.ndarray, "_ _ 3"]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PAPER = (255, 255, 255)
_INK = (32, 36, 42)
_FAINT = (196, 200, 206)
_CITYSCAPES = CLASS_LISTS["cityscapes19"]


def colorize(label: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The Cityscapes colours of a map of trainIds; ignored pixels (255) are black."""
    return PALETTE[label]


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    label: UInt8[np.ndarray, "H W"],
    alpha: float = 0.5,
    *,
    darken_ignored: bool = False,
) -> UInt8[np.ndarray, "H W 3"]:
    """The label's colours over the image, with opacity `alpha`.

    Ignored pixels show the image, or with `darken_ignored` have their colour, black, over it too.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha: got {alpha}, want 0..1")
    mixed = np.rint((1 - alpha) * image + alpha * PALETTE[label].astype(np.float32))
    shows_image = (label == IGNORE)[..., None] & (not darken_ignored)
    return np.where(shows_image, image, mixed.astype(np.uint8))


def contact_sheet(
    rows: Sequence[Sequence[Picture]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] = (),
    *,
    class_list: ClassList | None = _CITYSCAPES,
    cell_width: int = 512,
) -> Image.Image:
    """Pictures in rows under titled columns, with the colours of the classes below.

    All pictures of a sheet have one shape. They are shown `cell_width` pixels wide or little less:
    small ones are enlarged by a whole factor, so that label maps stay crisp. `class_list=None`
    leaves out the legend. A row title stands at the left, turned; it may hold two lines.
    """
    _check_grid(rows, column_titles, row_titles)
    layout = _Layout.of(rows[0][0], bool(row_titles), cell_width)
    width = layout.width_of(len(column_titles))
    height = layout.top(len(rows)) - layout.gap + layout.margin
    legend = _legend(class_list, width, layout) if class_list else None
    size = (width, height + legend.height) if legend else (width, height)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(column_titles):
        middle = layout.left(column) + layout.cell[0] // 2
        position = (middle, layout.margin + layout.header // 2)
        draw.text(position, title, font=layout.font, fill=_INK, anchor="mm")
    for index, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(layout.fit(picture), (layout.left(column), layout.top(index)))
        if row_titles:
            title_strip = _turned(row_titles[index], layout)
            sheet.paste(title_strip, (layout.margin, layout.top(index)))
    if legend:
        sheet.paste(legend, (0, height))
    return sheet


def captioned_sheet(
    pictures: Sequence[Picture],
    captions: Sequence[str],
    *,
    class_list: ClassList | None = _CITYSCAPES,
    cell_width: int = 480,
    num_columns: int = 4,
) -> Image.Image:
    """Pictures of any sizes row by row, each above its caption, and the legend at the bottom.

    Every picture is scaled to fit into a cell of the shape that most of them have. Captions that
    are too long lose their beginning. `class_list=None` leaves out the legend.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"sheet: got {len(pictures)} pictures, {len(captions)} captions")
    shape = Counter(picture.shape[:2] for picture in pictures).most_common(1)[0][0]
    layout = _Layout.of(np.zeros((*shape, 3), np.uint8), False, cell_width)
    layout = replace(layout, header=0, gap=layout.text_height)
    num_columns = min(num_columns, len(pictures))
    pitch = layout.cell[1] + 2 * layout.text_height + layout.gap // 2
    width = layout.width_of(num_columns)
    legend = _legend(class_list, width, layout) if class_list else None
    height = layout.margin + -(-len(pictures) // num_columns) * pitch
    sheet = Image.new("RGB", (width, height + (legend.height if legend else 0)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for position, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(position, num_columns)
        left, top = layout.left(column), layout.margin + row * pitch
        sheet.paste(*_centred(picture, layout.cell, left, top))
        text = _shortened(caption, layout.font, layout.cell[0])
        middle = (left + layout.cell[0] // 2, top + layout.cell[1] + layout.text_height)
        draw.text(middle, text, font=layout.font, fill=_INK, anchor="mm")
    if legend:
        sheet.paste(legend, (0, height))
    return sheet


def _centred(
    picture: Picture, cell: tuple[int, int], left: int, top: int
) -> tuple[Image.Image, tuple[int, int]]:
    """The picture as large as the cell at (left, top) lets it be, and its place in the middle."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    factor = min(cell[0] / image.width, cell[1] / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    method = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    place = (left + (cell[0] - size[0]) // 2, top + (cell[1] - size[1]) // 2)
    return image.resize(size, method), place


def _shortened(text: str, font: Font, width: int) -> str:
    """The end of the text, where names differ, as far as it fits into so many pixels."""
    if font.getlength(text) <= width:
        return text
    while len(text) > 1 and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where things stand on a sheet, in pixels; everything follows from the size of a cell."""

    cell: tuple[int, int]  # width, height
    text_height: int
    margin: int
    gap: int
    header: int  # height of the column titles
    side: int  # width of the row titles

    @classmethod
    def of(cls, picture: Picture, has_row_titles: bool, cell_width: int) -> "_Layout":
        height, width = picture.shape[:2]
        factor = cell_width // width if width <= cell_width else cell_width / width
        cell = (max(1, round(width * factor)), max(1, round(height * factor)))
        text = max(14, cell[0] // 24)
        return cls(
            cell=cell,
            text_height=text,
            margin=text,
            gap=max(4, text // 3),
            header=text * 2,
            side=round(text * 2.6) if has_row_titles else 0,
        )

    @property
    def font(self) -> Font:
        return ImageFont.load_default(size=self.text_height)

    def left(self, column: int) -> int:
        return self.margin + self.side + column * (self.cell[0] + self.gap)

    def top(self, row: int) -> int:
        return self.margin + self.header + row * (self.cell[1] + self.gap)

    def width_of(self, num_columns: int) -> int:
        return self.left(num_columns) - self.gap + self.margin

    def fit(self, picture: Picture) -> Image.Image:
        image = Image.fromarray(np.ascontiguousarray(picture))
        enlarged = self.cell[0] >= image.width
        method = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
        return image.resize(self.cell, method)


def _turned(title: str, layout: _Layout) -> Image.Image:
    """The title of a row, to be read from below."""
    title = "\n".join(_shortened(t, layout.font, layout.cell[1]) for t in title.split("\n"))
    strip = Image.new("RGB", (layout.cell[1], layout.side), _PAPER)
    draw = ImageDraw.Draw(strip)
    position = (layout.cell[1] // 2, layout.side // 2)
    draw.text(position, title, font=layout.font, fill=_INK, anchor="mm", align="center")
    return strip.transpose(Image.Transpose.ROTATE_90)


def _legend(class_list: ClassList, width: int, layout: _Layout) -> Image.Image:
    """A strip of swatches with the names of the scored classes and of "ignored", evenly spread."""
    entries = [(class_list.class_name(k), k) for k in class_list.scored] + [("ignored", IGNORE)]
    text, font = layout.text_height, layout.font
    widest = max(font.getlength(name) for name, _ in entries)
    usable = width - layout.left(0) - layout.margin
    num_columns = max(1, min(len(entries), usable // (round(widest) + 3 * text)))
    num_lines = -(-len(entries) // num_columns)
    num_columns = -(-len(entries) // num_lines)  # as even as possible
    pitch, line = usable / num_columns, round(1.8 * text)
    strip = Image.new("RGB", (width, num_lines * line + layout.margin), _PAPER)
    draw = ImageDraw.Draw(strip)
    for position, (name, train_id) in enumerate(entries):
        row, column = divmod(position, num_columns)
        left, top = layout.left(0) + round(column * pitch), row * line + (line - text) // 2
        color = tuple(int(channel) for channel in PALETTE[train_id])
        draw.rectangle((left, top, left + round(1.4 * text), top + text), color, outline=_FAINT)
        middle = (left + 2 * text, top + text // 2)
        draw.text(middle, name, font=font, fill=_INK, anchor="lm")
    return strip


def _check_grid(
    rows: Sequence[Sequence[Picture]], column_titles: Sequence[str], row_titles: Sequence[str]
) -> None:
    if not rows or not column_titles:
        raise ValueError("contact sheet: got no pictures, want at least one row and one column")
    if any(len(pictures) != len(column_titles) for pictures in rows):
        lengths = [len(pictures) for pictures in rows]
        raise ValueError(f"contact sheet: got rows of {lengths}, want {len(column_titles)} each")
    if row_titles and len(row_titles) != len(rows):
        raise ValueError(f"contact sheet: got {len(row_titles)} row titles, want {len(rows)}")
    shapes = sorted({picture.shape for pictures in rows for picture in pictures})
    if len(shapes) > 1:
        raise ValueError(f"contact sheet: got pictures of shapes {shapes}, want one shape")
