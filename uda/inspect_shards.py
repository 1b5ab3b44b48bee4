"""`uda inspect`: what is in a folder of shards, as text, as JSON and as a picture."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from uda.classes import CLASS_LISTS, NUM_CLASSES, ClassList
from uda.data.codec import decode_image, decode_label
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.data.summary import ShardSummary, summarize
from uda.data.verify import verify_shards
from uda.pictures import captioned_sheet, overlay
from uda.report import check_output_file, write_json
from uda.types import UserError

_SIZES_SHOWN = 4
_BAR_WIDTH = 40


def inspect_shards(
    folder: Path,
    *,
    png: Path | None = None,
    pictures: int = 12,
    verify: bool = False,
    json_file: Path | None = None,
) -> None:
    """Prints what the folder holds, after comparing all files with their hashes if asked to.

    `png` gets a sheet of so many `pictures`, evenly spaced. UserError for a folder that is none,
    DamagedFilesError where `verify` finds something.
    """
    _check_png(png, pictures)
    check_output_file("--json", json_file)
    verified = verify_shards(folder) if verify else 0
    opened = open_shards(folder)
    summary = summarize(opened)
    print(summary_text(summary))
    if verified:
        print(f"\nverified: {verified} files are as they were written")
    if json_file is not None:
        write_json(json_file, asdict(summary))
    if png is not None:
        draw_samples(folder, png, pictures)
        print(f"\n{png}: {min(pictures, summary.samples)} of {summary.samples} samples")


def summary_text(summary: ShardSummary) -> str:
    """A table for people: facts, classes with a bar each, and what is in quarantine."""
    width = max(map(len, _facts(summary)))
    lines = [summary.folder]
    lines += [f"  {name:<{width}}  {value}" for name, value in _facts(summary).items()]
    if summary.labelled:
        lines += ["", *_class_lines(summary)]
    for group in summary.quarantine:
        lines += ["", f"quarantined {group.inputs}: {group.kind}"]
        lines += [f"  {example}" for example in group.examples]
        if more := group.inputs - len(group.examples):
            lines.append(f"  and {more} more, see quarantine.jsonl")
    return "\n".join(lines)


def draw_samples(folder: Path, png: Path, count: int) -> None:
    """A sheet of `count` samples at even distances, labels as colours over the images."""
    opened = open_shards(folder)
    rows = ShardRows(opened, labels=True)
    chosen = [rows.row(int(n)) for n in _evenly(len(rows), count)]
    shown, labels = [], []
    for row in chosen:
        try:
            image = decode_image(row.image)
            label = decode_label(row.label, row.height, row.width) if row.label else None
        except ValueError as error:
            raise UserError(f"{row.where}: does not decode: {error}") from error
        shown.append(image if label is None else overlay(image, label, darken_ignored=True))
        labels += [] if label is None else [label]
    class_list = _with_seen(CLASS_LISTS[opened.manifest.class_list], labels) if labels else None
    sheet = captioned_sheet(shown, [row.key for row in chosen], class_list=class_list)
    png.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(png, "PNG")


def _with_seen(class_list: ClassList, labels: list[np.ndarray]) -> ClassList:
    """The list with all classes of the labels, so that no colour lacks its name in the legend."""
    seen = set(np.unique(np.concatenate([np.unique(label) for label in labels])).tolist())
    shown = tuple(k for k in range(NUM_CLASSES) if k in class_list.scored or k in seen)
    return replace(class_list, scored=shown)


def _facts(summary: ShardSummary) -> dict[str, str]:
    sizes = [f"{size.width}x{size.height} ({size.samples})" for size in summary.sizes]
    shown, more = sizes[:_SIZES_SHOWN], len(sizes) - _SIZES_SHOWN
    per_sample = summary.bytes // max(1, summary.samples)
    return {
        "made by": summary.made_by.get("command", "unknown"),
        "data set": f"{summary.dataset}, domain {summary.domain}, split {summary.split}",
        "classes": summary.class_list,
        "samples": f"{summary.samples}, {_all_or(summary.labelled, summary.samples)} with labels",
        "quarantined": f"{summary.quarantined} of {summary.inputs} inputs",
        "shards": f"{summary.shards}, {_readable_bytes(summary.bytes)}",
        "images": f"{summary.image_codec}, {_readable_bytes(per_sample)} per sample",
        "sizes": ", ".join(shown) + (f" and {more} more" if more > 0 else ""),
        "digest": summary.digest[:16],
    }


def _class_lines(summary: ShardSummary) -> Iterator[str]:
    width = max(len(entry.name) for entry in summary.classes)
    yield f"{'class':<{width}}  pixels, %  images"
    yield "-" * (width + 19)
    most = max(entry.share for entry in summary.classes)
    for entry in summary.classes:
        bar = "#" * round(_BAR_WIDTH * entry.share / most) if most else ""
        note = "" if entry.scored else f"  (not in {summary.class_list})"
        percent, images = 100 * entry.share, entry.images
        yield f"{entry.name:<{width}}  {percent:9.3f}  {images:6}  {bar}{note}".rstrip()
    yield "-" * (width + 19)
    yield f"{'ignored':<{width}}  {100 * summary.ignored:9.3f}          of all pixels"


def _all_or(some: int, whole: int) -> str:
    return "all" if some == whole else str(some or "none")


def _readable_bytes(number: int) -> str:
    power = next(p for p in (3, 2, 1, 0) if number >= 1000**p or p == 0)
    return f"{number / 1000**power:.{min(power, 1)}f} {('B', 'kB', 'MB', 'GB')[power]}"


def _evenly(total: int, count: int) -> list[int]:
    """The middles of `count` equal parts of 0..total - 1; all where there are fewer."""
    count = min(count, total)
    return [int(n) for n in (np.arange(count) + 0.5) * total / max(1, count)]


def _check_png(png: Path | None, pictures: int) -> None:
    if png is not None and (not png.name or png.is_dir()):
        raise UserError(f"--png: got {png}, which is a folder; want a file")
    if pictures < 1:
        raise UserError(f"--pictures: got {pictures}, want at least 1")
