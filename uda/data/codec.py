"""Images and labels as bytes in a shard, and back.

An image is a JPEG, or tiles of zstd where every value must survive (evaluation). The bytes say
themselves which of the two they are. A label is zstd of the raw uint8 trainIds.
"""

from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from uda.data.jpeg import decode_jpeg, decode_jpeg_window, encode_jpeg, jpeg_size
from uda.data.tiles import MAGIC, decode_tiles, decode_tiles_window, encode_tiles, tiles_size

cv2.setNumThreads(0)  # our own threads decode whole samples; OpenCV's would only fight with them

_LABEL_LEVEL = 9

Encoded = bytes | memoryview

IMAGE_CODECS: dict[str, Callable[[np.ndarray], bytes]] = {
    "jpeg": encode_jpeg,
    "exact": encode_tiles,
}


def decode_image(data: Encoded) -> UInt8[np.ndarray, "H W 3"]:
    """RGB; ValueError if the bytes are no image of these codecs, or a damaged one."""
    return decode_jpeg(data) if _is_jpeg(data) else decode_tiles(data)


def decode_window(
    data: Encoded, top: int, left: int, height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Exactly these pixels of `decode_image`, for less work; it may be a view of a larger array.

    ValueError as for `decode_image`, and if the window has no pixels or some outside the image.
    """
    decode = decode_jpeg_window if _is_jpeg(data) else decode_tiles_window
    return decode(data, top, left, height, width)


def image_size(data: Encoded) -> tuple[int, int]:
    """Height and width, read from the header; ValueError as for `decode_image`."""
    return jpeg_size(data) if _is_jpeg(data) else tiles_size(data)


def encode_label(label: UInt8[np.ndarray, "H W"]) -> bytes:
    """zstd of the rows of trainIds."""
    codec = pa.Codec("zstd", compression_level=_LABEL_LEVEL)
    return codec.compress(np.ascontiguousarray(label), asbytes=True)


def decode_label(data: Encoded, height: int, width: int) -> UInt8[np.ndarray, "H W"]:
    """The trainIds (read-only); ValueError unless the data hold exactly height x width of them."""
    try:
        raw = pa.Codec("zstd").decompress(data, decompressed_size=height * width)
    except OSError as error:
        raise ValueError(f"the label is not zstd of {height} x {width} bytes: {error}") from error
    return np.frombuffer(raw, np.uint8).reshape(height, width)


def _is_jpeg(data: Encoded) -> bool:
    """ValueError where the bytes begin like neither of the two kinds."""
    start = bytes(data[: len(MAGIC)])
    if start[:2] == b"\xff\xd8":
        return True
    if start == MAGIC:
        return False
    raise ValueError("the image is neither a JPEG nor has it tiles of ours")
