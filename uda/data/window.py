"""Windows: rectangles of an image, in pixels."""


def check_window(size: tuple[int, int], top: int, left: int, height: int, width: int) -> None:
    """ValueError unless the window has pixels and all are inside an image of (height, width)."""
    if not (0 <= top < top + height <= size[0] and 0 <= left < left + width <= size[1]):
        window = f"{width}x{height} pixels from column {left}, row {top}"
        raise ValueError(f"window: got {window}, want some inside {size[1]}x{size[0]} pixels")
