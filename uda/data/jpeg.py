"""JPEG of which a part can be decoded: an ordinary file with restart markers and their index.

Restart markers divide the scan of a JPEG into intervals, each of which decodes by itself. Here an
interval is part of one row of coding units, and all rows are divided alike. So the intervals that
cover a window, joined below a header with another size, are a smaller JPEG of just that part.
The lengths of the intervals stand in an application segment, which other programs skip.
"""

import io
import struct
from typing import NamedTuple

import numpy as np
import simplejpeg
from jaxtyping import Int64, UInt8
from PIL import Image

from uda.data.window import check_window

QUALITY = 95
UNIT_PX = 16  # side of a coding unit with 4:2:0 chroma
INTERVAL_UNITS = 4  # a restart marker every 64 px, where the width allows it

# A pixel's chroma is interpolated between 2 x 2 chroma samples, each of which stands for 2 x 2
# pixels. One more pixel on each side brings in all of them, but only where libjpeg interpolates:
# not in a JPEG of at most `_NARROW_PX` columns.
_MARGIN_PX = 1
_NARROW_PX = 4

_SIGNATURE = b"uda-rst\0"
_SEGMENT = struct.Struct(">HH")  # marker, length of the segment without its marker
_FRAME = struct.Struct(">BHHB")  # bits per sample, height, width, components
_APP9, _DRI, _SOS = 0xFFE9, 0xFFDD, 0xFFDA  # application, restart interval, start of scan
_FRAMES = {0xFFC0 + n for n in range(16)} - {0xFFC4, 0xFFC8, 0xFFCC}
_SEQUENTIAL_FRAMES = (0xFFC0, 0xFFC1)
_SAMPLING_420 = b"\x22\x11\x11"
_RST0, _EOI = 0xD0, 0xD9  # second bytes of the markers in the scan
_LARGEST_UINT16 = 0xFFFF
_PIXELS_PER_BYTE = 1024  # at most; a progressive JPEG of one grey has 512

Data = bytes | memoryview


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A baseline JPEG (quality 95, 4:2:0) with restart markers and their index."""
    file = io.BytesIO()
    Image.fromarray(image).save(
        file,
        "JPEG",
        quality=QUALITY,
        subsampling="4:2:0",
        optimize=True,  # Huffman tables of its own: smaller, and quicker to decode
        restart_marker_blocks=restart_interval(image.shape[1]),
    )
    data = file.getvalue()
    ends = _find_ends(data, _read_header(data))
    assert ends is not None
    lengths = np.diff(ends)
    index = _SIGNATURE + lengths.astype(">u2").tobytes()
    if lengths.max() > _LARGEST_UINT16 or 2 + len(index) > _LARGEST_UINT16:
        return data  # whoever decodes a window has to look for the markers
    after_jfif = 4 + int.from_bytes(data[4:6])
    return data[:after_jfif] + _SEGMENT.pack(_APP9, 2 + len(index)) + index + data[after_jfif:]


def decode_jpeg(data: Data) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of any JPEG; ValueError if it is damaged."""
    return _decode(data, _read_header(data).size)


def decode_jpeg_window(
    data: Data, top: int, left: int, height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """These pixels of `decode_jpeg`; ValueError if the JPEG is damaged or does not reach so far.

    Decodes just what covers the window, or everything where the JPEG cannot be divided.
    """
    header = _read_header(data)
    check_window(header.size, top, left, height, width)
    part = _covering(header, top, left, height, width)
    ends = None if part is None else _interval_ends(data, header)
    if part is None or ends is None:
        return _decode(data, header.size)[top : top + height, left : left + width]
    image = _decode(_splice(data, header, ends, part), part.size)
    top, left = top - part.top_px, left - part.left_px
    return image[top : top + height, left : left + width]


def jpeg_size(data: Data) -> tuple[int, int]:
    """Height and width as the header has them; ValueError if it is damaged."""
    return _read_header(data).size


def restart_interval(width: int) -> int:
    """Coding units between restart markers: the divisor of a row's units whose ratio to 4 is least.

    Only intervals that divide the row line up below each other, so that the intervals covering a
    rectangle are again a rectangle. A marker after every unit would cost too many bytes.
    """
    units = -(-width // UNIT_PX)
    divisors = [d for d in range(1, units + 1) if units % d == 0 and (d > 1 or d == units)]
    return min(divisors, key=lambda d: max(d / INTERVAL_UNITS, INTERVAL_UNITS / d))


class _Header(NamedTuple):
    """What a JPEG says before its scan."""

    size: tuple[int, int]  # height, width
    size_at: int  # where these two are written
    scan: int  # where the entropy-coded bytes begin
    grid: tuple[int, int]  # rows and columns of restart intervals; zeros: they are no such grid
    lengths: tuple[int, int]  # where those in our segment begin and end; zeros: no segment


class _Part(NamedTuple):
    """A rectangle of restart intervals, and the pixels that it shows."""

    rows: tuple[int, int]  # first, last + 1
    columns: tuple[int, int]
    top_px: int
    left_px: int
    size: tuple[int, int]  # height, width


def _read_header(data: Data) -> _Header:
    """Walks the segments up to the scan; ValueError where there are none, or no picture."""
    frame = interval = 0
    kind, lengths = 0, (0, 0)
    start = 2
    try:
        while True:
            marker, length = _SEGMENT.unpack_from(data, start)
            body, end = start + 4, start + 2 + length
            if marker in _FRAMES:
                kind, frame = marker, body
            elif marker == _DRI:
                interval = int.from_bytes(data[body:end])
            elif marker == _APP9 and bytes(data[body : body + len(_SIGNATURE)]) == _SIGNATURE:
                lengths = (body + len(_SIGNATURE), end)
            elif marker == _SOS:
                break
            elif marker < 0xFFC0 or length < 2:
                raise ValueError(f"the JPEG's header is damaged at byte {start}")
            start = start + 1 if marker == 0xFFFF else end
        bits, height, width, components = _FRAME.unpack_from(data, frame)
        in_scan = data[body]
    except (struct.error, IndexError) as error:
        raise ValueError("the JPEG ends within its header") from error
    if not frame or not 0 < height * width <= _PIXELS_PER_BYTE * len(data):
        raise ValueError(f"the JPEG's header is damaged: {width}x{height} in {len(data)} bytes")
    sampling = bytes(data[frame + 7 : frame + 16 : 3])
    divisible = kind in _SEQUENTIAL_FRAMES and sampling == _SAMPLING_420
    divisible &= bits == 8 and components == in_scan == 3  # that is, there is only one scan
    units = -(-width // UNIT_PX)
    if not divisible or not interval or units % interval:
        grid = (0, 0)
    else:
        grid = (-(-height // UNIT_PX), units // interval)
    return _Header((height, width), frame + 1, end, grid, lengths)


def _covering(header: _Header, top: int, left: int, height: int, width: int) -> _Part | None:
    """The intervals that determine the window's pixels; None where that means the whole image."""
    num_rows, num_columns = header.grid
    if not num_columns:
        return None
    units = -(-header.size[1] // UNIT_PX)
    cell_px = units // num_columns * UNIT_PX
    first_px = min(left - _MARGIN_PX, header.size[1] - _NARROW_PX - 1)
    rows = (
        max(0, top - _MARGIN_PX) // UNIT_PX,
        min(num_rows, -(-(top + height + _MARGIN_PX) // UNIT_PX)),
    )
    columns = (
        max(0, first_px) // cell_px,
        min(num_columns, -(-(left + width + _MARGIN_PX) // cell_px)),
    )
    if rows == (0, num_rows) and columns == (0, num_columns):
        return None
    top_px, left_px = rows[0] * UNIT_PX, columns[0] * cell_px
    size = (
        min(header.size[0], rows[1] * UNIT_PX) - top_px,
        min(header.size[1], columns[1] * cell_px) - left_px,
    )
    return _Part(rows, columns, top_px, left_px, size)


def _interval_ends(data: Data, header: _Header) -> Int64[np.ndarray, "E"] | None:
    """See `_find_ends`; read from our segment if there is one, ValueError if it cannot be right."""
    start, end = header.lengths
    if not end:
        return _find_ends(data, header)
    num_intervals = header.grid[0] * header.grid[1]
    ends = np.zeros(num_intervals + 1, np.int64)
    if end - start == 2 * num_intervals:
        np.cumsum(np.frombuffer(data, ">u2", num_intervals, start), out=ends[1:])
    if ends[-1] != len(data) - header.scan:
        raise ValueError("the JPEG is not as long as its index of restart intervals says")
    return ends


def _find_ends(data: Data, header: _Header) -> Int64[np.ndarray, "E"] | None:
    """0 and where each interval ends, its marker included, in bytes from the start of the scan.

    None unless there are as many as the size asks for. Among the coded bytes 0xFF is followed by
    0, so that 0xFF with anything else is a marker.
    """
    scan = np.frombuffer(data, np.uint8, offset=header.scan)
    places = np.flatnonzero(scan[:-1] == 0xFF) + 1
    codes = scan[places]
    is_end = codes == _EOI
    places = places[is_end | (codes & 0xF8 == _RST0)]
    num_intervals = header.grid[0] * header.grid[1]
    if len(places) < num_intervals or scan[places[num_intervals - 1]] != _EOI:
        return None
    return np.concatenate([[0], places[:num_intervals] + 1])


def _splice(data: Data, header: _Header, ends: Int64[np.ndarray, "E"], part: _Part) -> bytearray:
    """A JPEG of the part: the header with its size, its intervals, their markers renumbered."""
    view = memoryview(data)
    row_starts = np.arange(*part.rows)[:, None] * header.grid[1]
    bounds = ends[row_starts + np.arange(part.columns[0], part.columns[1] + 1)] + header.scan
    first, last = bounds[:, 0], bounds[:, -1]
    strips = [view[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    jpeg = bytearray().join([view[: header.scan], *strips])

    lengths = last - first
    moved = header.scan + np.cumsum(lengths) - lengths - first  # how far each strip
    markers = (bounds[:, 1:] + moved[:, None]).ravel() - 1
    numbers = (row_starts + np.arange(*part.columns)).ravel()
    expected = _RST0 + numbers % 8
    if numbers[-1] == len(ends) - 2:
        expected[-1] = _EOI
    content = np.frombuffer(jpeg, np.uint8)
    if (content[markers] != expected).any() or (content[markers - 1] != 0xFF).any():
        raise ValueError("the JPEG's restart markers are not where its index says")
    content[markers] = _RST0 + np.arange(len(markers)) % 8
    content[-1] = _EOI
    struct.pack_into(">HH", jpeg, header.size_at, *part.size)
    return jpeg


def _decode(data: Data | bytearray, size: tuple[int, int]) -> np.ndarray:
    image = simplejpeg.decode_jpeg(data, colorspace="RGB")
    if image.shape != (*size, 3):
        raise ValueError(f"the JPEG's header is damaged: two sizes, {image.shape[:2]} and {size}")
    return image
