"""What decides the bytes of a shard folder: the options of `uda prepare` and the inputs' names."""

import hashlib
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from uda.data import DATASETS
from uda.data.codec import IMAGE_CODECS
from uda.data.raw import GeneratedDataset, RawDataset
from uda.data.shards import SCHEMA_VERSION
from uda.data.write import ShardJob
from uda.types import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for, as far as it decides what is in the shards."""

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
class Plan:
    """The options with the data set's samples listed: everything that decides the shards."""

    options: Options
    raw: RawDataset
    domain: str
    keys: list[str]

    @property
    def digest(self) -> str:
        """Leaves out the root's path and versions: moving or upgrading keeps what is written."""
        options = self.options
        values = [options.dataset, self.domain, options.split, options.size, options.codec]
        settings = self.raw.settings(options.root)
        text = json.dumps([*values, settings, options.rows_per_shard, SCHEMA_VERSION, self.keys])
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


def make_plan(options: Options) -> Plan:
    """Lists the inputs; UserError says what about the options or the data set is wrong."""
    raw = DATASETS[options.dataset]
    if isinstance(raw, GeneratedDataset):
        raw = raw.configured(count=options.count, seed=options.seed, size=options.size)
        options = replace(options, count=raw.count, size=raw.size)
    elif options.seed:
        raise UserError(f"seed: got {options.seed}, but {options.dataset} is not generated")
    keys = raw.keys(options.root, options.split)[: options.count]
    return Plan(options=options, raw=raw, domain=raw.domain(options.root), keys=keys)
