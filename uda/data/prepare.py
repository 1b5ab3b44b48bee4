"""Raw data set -> shard folder.

Restartable: a shard gets its name only when it is complete, and carries the digest of the plan it
belongs to, so a second run keeps what it finds and writes what is missing. The bytes follow from
the raw data, the options and the versions of the libraries alone.

What is bad about one input is found by whoever writes its shard. That two inputs show the same is
known only when all are read: then the shards with the second of the two are written once more.
"""

import platform
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from uda.data.plan import Options, Plan, make_plan
from uda.data.quarantine import (
    QUARANTINE_FILE,
    BadInput,
    Tolerance,
    duplicate,
    quarantine_text,
)
from uda.data.shards import (
    MANIFEST_FILE,
    SAMPLES_FILE,
    SCHEMA_VERSION,
    Manifest,
    open_shards,
)
from uda.data.write import (
    ShardJob,
    WrittenShard,
    atomic,
    is_temporary,
    read_footer,
    sha256,
    write_samples,
    write_shard,
)
from uda.types import UserError

Execute = Callable[[list[ShardJob]], Generator[WrittenShard, None, None]]

MAX_BAD = 0.05
_VERSIONED = ("numpy", "opencv-python-headless", "pillow", "pyarrow")


def run_inline(jobs: list[ShardJob]) -> Generator[WrittenShard, None, None]:
    """Writes the shards one after another in this process."""
    yield from map(write_shard, jobs)


def prepare(
    dataset: str,
    root: str,
    out: str | Path,
    split: str,
    *,
    size: tuple[int, int] | None = None,
    codec: str = "jpeg",
    count: int | None = None,
    seed: int = 0,
    rows_per_shard: int = 64,
    on_error: str = "quarantine",
    max_bad: float = MAX_BAD,
    progress: bool = True,
    execute: Execute = run_inline,
) -> Manifest:
    """Makes `out` a shard folder of a split, or returns at once where it is that already.

    `size` is (width, height) in pixels, None keeps each image's own. `count` takes only the first
    so many inputs; a generated data set makes so many, from `seed`. `execute` maps `write_shard`
    over the jobs, in any order. Inputs that are damaged, do not fit or come twice are left out and
    listed in quarantine.jsonl; with `on_error` "fail", or if more than the share `max_bad` of the
    inputs is bad, they are a UserError. So are wrong arguments, and an `out` that holds something
    else. What was written until then is kept for the next run.
    """
    options = Options(
        dataset=dataset,
        root=root,
        split=split,
        size=size,
        codec=codec,
        count=count,
        seed=seed,
        rows_per_shard=rows_per_shard,
    )
    tolerance = Tolerance(on_error=on_error, max_bad=max_bad)
    folder = Path(out)
    plan = make_plan(options)
    if (folder / MANIFEST_FILE).exists():
        return _finished(folder, plan, tolerance)
    jobs = plan.jobs(folder)
    _check_contents(folder, jobs)
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{dataset} {split}"
    with tqdm(total=len(plan.keys), unit="image", desc=title, disable=not progress) as bar:
        check = partial(_check_bad, folder, plan, tolerance)
        shards = _write_shards(plan, jobs, execute, check, bar)
    return _finish(folder, plan, shards)


def _finished(folder: Path, plan: Plan, tolerance: Tolerance) -> Manifest:
    opened = open_shards(folder)
    manifest = opened.manifest
    footer = read_footer(folder / manifest.shards[0].file) if manifest.shards else None
    if footer is None or footer.plan != plan.digest:
        made = manifest.made_by.get("command", manifest.dataset)
        raise UserError(f"{folder}: holds other shards ({made}); want a new folder")
    tolerance.check(plan.options.root, opened.quarantine(), manifest.inputs)
    return manifest


def _check_contents(folder: Path, jobs: list[ShardJob]) -> None:
    """Only shards of this very plan may be there already."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file, want a folder to write shards to")
    shards = {job.path.name for job in jobs}
    for file in sorted(folder.iterdir()):
        if is_temporary(file):
            continue
        footer = read_footer(file) if file.name in shards else None
        if footer and footer.plan != jobs[0].plan:
            raise UserError(
                f"{folder}: holds {file.name} of other options or inputs, not finished; want a new "
                "folder, or this one deleted"
            )
        if file.name not in shards | {SAMPLES_FILE, QUARANTINE_FILE}:
            raise UserError(f"{folder}: holds {file.name} of something else; want a new folder")


def _write_shards(
    plan: Plan,
    jobs: list[ShardJob],
    execute: Execute,
    check: Callable[[list[BadInput]], None],
    bar: tqdm,
) -> list[WrittenShard]:
    """All shards in order, without the inputs that are bad or show what an earlier one shows."""
    shards: dict[str, WrittenShard] = {}
    bad: list[BadInput] = []
    with closing(execute(jobs)) as written:
        for shard in written:
            shards[shard.file.file] = shard
            bad += [each for each in shard.footer.bad if each.key not in shard.footer.duplicates]
            check(bad)
            bar.set_postfix_str(f"{len(bad)} bad" if bad else "", refresh=False)
            bar.update(shard.inputs)
    repeats = _repeats(plan.keys, shards)
    check(bad + [duplicate(key, "", first) for key, first in repeats.items()])
    again = []
    for job in jobs:
        own = {key: repeats[key] for key in job.keys if key in repeats}
        if own != shards[job.path.name].footer.duplicates:
            again.append(replace(job, duplicates=own))
    with closing(execute(again)) as written:
        shards |= {shard.file.file: shard for shard in written}
    return [shards[job.path.name] for job in jobs]


def _repeats(keys: list[str], shards: Mapping[str, WrittenShard]) -> dict[str, str]:
    """Each sample whose image was there before, and the first one that has it."""
    hashes = {key: code for shard in shards.values() for key, code in shard.footer.hashes.items()}
    first: dict[str, str] = {}
    for key in filter(hashes.__contains__, keys):
        first.setdefault(hashes[key], key)
    return {key: first[code] for key, code in hashes.items() if first[code] != key}


def _check_bad(folder: Path, plan: Plan, tolerance: Tolerance, bad: list[BadInput]) -> None:
    """UserError where they are too many; then those known until now stand in the folder."""
    try:
        tolerance.check(plan.options.root, bad, len(plan.keys))
    except UserError as error:
        _write_text(folder / QUARANTINE_FILE, quarantine_text(bad))
        raise UserError(f"{error}; all until here: {folder / QUARANTINE_FILE}") from error


def _finish(folder: Path, plan: Plan, shards: list[WrittenShard]) -> Manifest:
    """The tables, then the manifest, which declares the folder complete."""
    bad = [each for shard in shards for each in shard.footer.bad]
    classes = write_samples(folder, shards)
    _write_text(folder / QUARANTINE_FILE, quarantine_text(bad))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        dataset=plan.options.dataset,
        domain=plan.domain,
        split=plan.options.split,
        class_list=plan.raw.class_list(plan.options.root),
        image_codec=plan.options.codec,
        samples=sum(shard.file.rows for shard in shards),
        quarantined=len(bad),
        class_pixels=tuple(int(n) for n in classes.pixels),
        shards=tuple(shard.file for shard in shards),
        tables={name: sha256(folder / name) for name in (SAMPLES_FILE, QUARANTINE_FILE)},
        made_by={
            "command": plan.options.command,
            "versions": {name: version(name) for name in _VERSIONED}
            | {"python": platform.python_version()},
        },
    )
    assert manifest.inputs == len(plan.keys)
    for file in folder.iterdir():
        if is_temporary(file):
            file.unlink()
    _write_text(folder / MANIFEST_FILE, manifest.to_json())
    return manifest


def _write_text(file: Path, text: str) -> None:
    with atomic(file) as unfinished:
        unfinished.write_text(text)
