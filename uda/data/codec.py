"""Images and labels as bytes in a shard, and back.

An image is a JPEG with restart markers, or a PNG where every value must survive (evaluation). The
bytes say themselves which of the two they are. A label is zstd of the raw uint8 trainIds.
"""

import io
from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

cv2.setNumThreads(0)  # our own threads decode whole samples; OpenCV's would only fight with them

JPEG_QUALITY = 95
MCU_PX = 16  # side of a JPEG coding unit with 4:2:0 chroma
INTERVAL_MCUS = 8  # a restart marker every 128 px, where the width allows it
_LABEL_LEVEL = 9

Encoded = bytes | memoryview


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"]) -> tuple[bytes, list[int]]:
    """A baseline JPEG (quality 95, 4:2:0) and where its restart intervals lie.

    The offsets are: the first byte of the scan, then every restart marker, then the end-of-image
    marker; so there is one more of them than intervals. Interval i > 0 starts two bytes (the
    marker) after offset i; all intervals end at offset i + 1.
    """
    data = io.BytesIO()
    Image.fromarray(image).save(
        data,
        "JPEG",
        quality=JPEG_QUALITY,
        subsampling="4:2:0",
        restart_marker_blocks=restart_interval(image.shape[1]),
    )
    return data.getvalue(), _scan_offsets(data.getvalue())


def encode_png(image: UInt8[np.ndarray, "H W 3"]) -> tuple[bytes, list[int]]:
    """A lossless PNG; it has no restart intervals."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue(), []


IMAGE_CODECS: dict[str, Callable[[np.ndarray], tuple[bytes, list[int]]]] = {
    "jpeg": encode_jpeg,
    "png": encode_png,
}


def decode_image(data: Encoded) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of a JPEG or PNG; ValueError if it is neither or damaged."""
    if bytes(data[:2]) == b"\xff\xd8":
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None:
        raise ValueError("the image is neither a whole JPEG nor a whole PNG")
    return image


def encode_label(label: UInt8[np.ndarray, "H W"]) -> bytes:
    """zstd of the rows of trainIds."""
    codec = pa.Codec("zstd", compression_level=_LABEL_LEVEL)
    return codec.compress(np.ascontiguousarray(label)).to_pybytes()


def decode_label(data: Encoded, height: int, width: int) -> UInt8[np.ndarray, "H W"]:
    """The trainIds (read-only); ValueError unless the data hold exactly height x width of them."""
    try:
        raw = pa.Codec("zstd").decompress(data, decompressed_size=height * width)
    except OSError as error:
        raise ValueError(f"the label is not zstd of {height} x {width} bytes: {error}") from error
    return np.frombuffer(raw, np.uint8).reshape(height, width)


def restart_interval(width: int) -> int:
    """Coding units between restart markers: the divisor of a row's units whose ratio to 8 is least.

    Only intervals that divide the row line up below each other, so that the intervals covering a
    rectangle are again a rectangle. Divisors below 4 are not used: a marker costs bytes.
    """
    units = -(-width // MCU_PX)
    divisors = [d for d in range(1, units + 1) if units % d == 0 and (d >= 4 or d == units)]
    return min(divisors, key=lambda d: max(d / INTERVAL_MCUS, INTERVAL_MCUS / d))


def _scan_offsets(jpeg: bytes) -> list[int]:
    """Walks the header's segments to the scan, then finds the markers in it.

    Inside the scan a data byte 0xFF is always followed by 0, so 0xFF 0xD0..0xD7 is a marker.
    """
    position = 2
    while jpeg[position + 1] != 0xDA:  # start of scan
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4])
    start = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4])
    scan = np.frombuffer(jpeg, np.uint8, offset=start)
    markers = np.flatnonzero((scan[:-1] == 0xFF) & (scan[1:] & 0xF8 == 0xD0))
    return [start, *(int(m) + start for m in markers), len(jpeg) - 2]
