"""Raw data set -> shard folder.

Restartable: a shard gets its name only when it is complete, and carries the digest of the plan it
belongs to, so a second run keeps what it finds and writes what is missing. The bytes follow from
the raw data, the options and the versions of the libraries alone.
"""

import hashlib
import json
import platform
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

from tqdm import tqdm

from uda.data import DATASETS
from uda.data.codec import IMAGE_CODECS
from uda.data.raw import GeneratedDataset, RawDataset
from uda.data.shards import (
    MANIFEST_FILE,
    SAMPLES_FILE,
    SCHEMA_VERSION,
    Manifest,
    ShardFile,
    open_shards,
)
from uda.data.write import (
    ShardJob,
    atomic,
    is_temporary,
    read_footer,
    write_samples,
    write_shard,
)
from uda.types import UserError

Execute = Callable[[list[ShardJob]], Iterable[ShardFile]]

_VERSIONED = ("numpy", "opencv-python-headless", "pillow", "pyarrow")


def run_inline(jobs: list[ShardJob]) -> Iterable[ShardFile]:
    """Writes the shards one after another in this process."""
    return map(write_shard, jobs)


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
    progress: bool = True,
    execute: Execute = run_inline,
) -> Manifest:
    """Makes `out` a shard folder of a split, or returns at once where it is that already.

    `size` is (width, height) in pixels, None keeps each image's own. `count` takes only the first
    so many samples; a generated data set makes so many, from `seed`. `execute` maps `write_shard`
    over the jobs, in any order. UserError for wrong arguments, damaged files, or an `out` that
    holds something else; what was written until then is kept for the next run.
    """
    options = _Options(
        dataset=dataset,
        root=root,
        split=split,
        size=size,
        codec=codec,
        count=count,
        seed=seed,
        rows_per_shard=rows_per_shard,
    )
    folder = Path(out)
    plan = _plan(options)
    if (folder / MANIFEST_FILE).exists():
        return _finished(folder, plan)
    jobs = plan.jobs(folder)
    _check_contents(folder, jobs)
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, ShardFile] = {}
    title = f"{dataset} {split}"
    with tqdm(total=len(plan.keys), unit="image", desc=title, disable=not progress) as bar:
        for shard in execute(jobs):
            done[shard.file] = shard
            bar.update(shard.rows)
    return _finish(folder, plan, [done[job.path.name] for job in jobs])


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What the user asked for."""

    dataset: str
    root: str
    split: str
    size: tuple[int, int] | None
    codec: str
    count: int | None
    seed: int
    rows_per_shard: int

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise UserError(f"dataset: got {self.dataset}, want one of {sorted(DATASETS)}")
        if self.codec not in IMAGE_CODECS:
            raise UserError(f"codec: got {self.codec}, want one of {sorted(IMAGE_CODECS)}")
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"size: got {self.size[0]}x{self.size[1]}, want at least 1x1")
        if self.count is not None and self.count < 1:
            raise UserError(f"count: got {self.count}, want at least 1")
        if self.rows_per_shard < 1:
            raise UserError(f"rows_per_shard: got {self.rows_per_shard}, want at least 1")
        if self.seed < 0:
            raise UserError(f"seed: got {self.seed}, want at least 0")

    @property
    def command(self) -> str:
        """The command line; OUT stands for any folder, as the same data may lie anywhere."""
        words = ["uda", "prepare", self.dataset, self.root, "OUT", "--split", self.split]
        if self.size is not None:
            words += ["--size", f"{self.size[0]}x{self.size[1]}"]
        words += ["--codec", self.codec]
        if self.count is not None:
            words += ["--count", str(self.count)]
        if self.seed:
            words += ["--seed", str(self.seed)]
        return shlex.join(words)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The options with the data set's samples listed: everything that decides the shards."""

    options: _Options
    raw: RawDataset
    domain: str
    keys: list[str]

    @property
    def digest(self) -> str:
        """Leaves out the root's path and versions: moving or upgrading keeps what is written."""
        options = self.options
        values = [options.dataset, self.domain, options.split, options.size, options.codec]
        text = json.dumps([*values, options.rows_per_shard, SCHEMA_VERSION, self.keys])
        return hashlib.sha256(text.encode()).hexdigest()

    def jobs(self, folder: Path) -> list[ShardJob]:
        options, digest = self.options, self.digest
        return [
            ShardJob(
                raw=self.raw,
                root=options.root,
                split=options.split,
                domain=self.domain,
                keys=tuple(self.keys[start : start + options.rows_per_shard]),
                size=options.size,
                codec=options.codec,
                path=folder / f"shard-{number:05d}.parquet",
                plan=digest,
            )
            for number, start in enumerate(range(0, len(self.keys), options.rows_per_shard))
        ]


def _plan(options: _Options) -> _Plan:
    raw = DATASETS[options.dataset]
    if isinstance(raw, GeneratedDataset):
        raw = raw.configured(count=options.count, seed=options.seed, size=options.size)
        options = replace(options, count=raw.count, size=raw.size)
    elif options.seed:
        raise UserError(f"seed: got {options.seed}, but {options.dataset} is not generated")
    keys = raw.keys(options.root, options.split)[: options.count]
    twice = [key for key, following in pairwise(keys) if key == following]
    if twice:
        raise UserError(f"{options.root}: got two samples named {twice[0]}, want different names")
    return _Plan(options=options, raw=raw, domain=raw.domain(options.root), keys=keys)


def _finished(folder: Path, plan: _Plan) -> Manifest:
    manifest = open_shards(folder).manifest
    footer = read_footer(folder / manifest.shards[0].file) if manifest.shards else None
    if footer is None or footer.plan != plan.digest:
        made = manifest.made_by.get("command", manifest.dataset)
        raise UserError(f"{folder}: holds other shards ({made}); want a new folder")
    return manifest


def _check_contents(folder: Path, jobs: list[ShardJob]) -> None:
    """Only shards of this very plan may be there already."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file, want a folder to write shards to")
    names = {job.path.name for job in jobs} | {SAMPLES_FILE}
    for file in sorted(folder.iterdir()):
        if is_temporary(file):
            continue
        footer = read_footer(file) if file.name in names - {SAMPLES_FILE} else None
        if file.name not in names or (footer and footer.plan != jobs[0].plan):
            raise UserError(f"{folder}: holds {file.name} of something else; want a new folder")


def _finish(folder: Path, plan: _Plan, shards: list[ShardFile]) -> Manifest:
    """Statistics, then the manifest, which declares the folder complete."""
    classes = write_samples(folder, shards)
    footers = [read_footer(folder / shard.file) for shard in shards]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        dataset=plan.options.dataset,
        domain=plan.domain,
        split=plan.options.split,
        class_list=plan.raw.class_list,
        image_codec=plan.options.codec,
        samples=len(plan.keys),
        quarantined=0,
        unknown_label_pixels=sum(footer.unknown_label_pixels for footer in footers if footer),
        class_pixels=tuple(int(n) for n in classes.pixels),
        shards=tuple(shards),
        made_by={
            "command": plan.options.command,
            "versions": {name: version(name) for name in _VERSIONED}
            | {"python": platform.python_version()},
        },
    )
    for file in folder.iterdir():
        if is_temporary(file):
            file.unlink()
    with atomic(folder / MANIFEST_FILE) as partial:
        partial.write_text(manifest.to_json())
    return manifest
