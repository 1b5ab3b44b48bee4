"""The configuration: everything that decides what is learned, as one frozen tree.

`Config` is the science; how many workers run it is `cluster`'s business and is not in here. A
preset function builds a whole tree (`uda.presets`) and `uda.tree.override` changes it.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from uda.classes import NUM_CLASSES
from uda.data.augment import Photometric
from uda.data.colours import ColourTransfer
from uda.data.crop import CropConfig
from uda.data.fourier import Fourier
from uda.data.masking import BlockMask
from uda.data.sampling import SamplingConfig
from uda.losses import LOSSES, Loss
from uda.losses.adversarial import Level
from uda.models.deeplabv3plus import ModelConfig
from uda.models.teacher import BatchNormMode
from uda.tree import from_plain, to_plain
from uda.types import UserError, check_choices, check_least

Weighting = Literal["image", "pixel", "class"]
SelectBy = Literal["last", "quality"]
OnStall = Literal["stop", "fade"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is drawn from the shards; the target is always drawn uniformly."""

    crop: CropConfig
    source_sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What happens to images before the student sees them.

    `colours` and `fourier` give source images, wherever they are used, the look of a target image;
    then `source` and `mixed` change the colours of the source and of the class-mixed images;
    `masked` and `mask` are for masked target images.
    """

    colours: ColourTransfer = field(default_factory=ColourTransfer)
    fourier: Fourier = field(default_factory=Fourier)
    source: Photometric = field(default_factory=Photometric)
    mixed: Photometric = field(default_factory=Photometric)
    masked: Photometric = field(default_factory=Photometric)
    mask: BlockMask = field(default_factory=BlockMask)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The mean teacher (Tarvainen and Valpola, NeurIPS 2017) that labels the target.

    - `decay`: share of the old weights that a step keeps, once past its start.
    - `threshold`: probability from which a target pixel counts as trusted.
    - `weighting`: how much a pseudo-label counts. "image": the share of its image's pixels that
      are trusted (DACS, but per image), "pixel": 1 if it is trusted itself and 0 if not, "class":
      as "pixel", and 1 too if it is among the surer half of its image's pixels of its class.
    - `batch_norm`: how it normalises, see `uda.models.Teacher`.
    """

    decay: float = 0.999
    threshold: float = 0.968
    weighting: Weighting = "image"
    batch_norm: BatchNormMode = "batch"

    def __post_init__(self) -> None:
        if not (0 <= self.decay < 1 and 0 <= self.threshold <= 1):
            raise ValueError(
                f"decay, threshold: got {self.decay}, {self.threshold}, want [0, 1) and [0, 1]"
            )
        check_choices(self, weighting=Weighting, batch_norm=BatchNormMode)


@dataclass(frozen=True, kw_only=True)
class ProjectionConfig:
    """Where contrastive embeddings come from: a feature tap and their width."""

    reads: str = "aspp"
    width: int = 64

    def __post_init__(self) -> None:
        if self.reads == "output":
            raise ValueError("reads: got 'output', want a feature tap such as 'aspp'")
        if self.width < 1:
            raise ValueError(f"width: got {self.width}, want 1 or more")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW for the network (head and projection faster than the backbone), Adam for adversaries.

    Every rate rises over `warmup` steps and decays to zero at the last step.
    """

    lr: float = 6e-5
    head_factor: float = 10.0
    weight_decay: float = 0.01
    warmup: int = 1500
    decay: Literal["none", "linear", "poly", "cosine"] = "linear"
    discriminator_lr: float = 1e-4
    clip_norm: float = 0.0  # largest gradient norm of the network; 0 does not clip

    def __post_init__(self) -> None:
        for name in ("lr", "head_factor", "discriminator_lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, want more than 0")
        for name in ("weight_decay", "warmup", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, want 0 or more")


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How the same science is computed; not part of the experiment's digest.

    With `select_by` "quality" every checkpoint is scored meanwhile, without target labels
    (`uda.quality`): the `keep_best` best ones stay beside the latest `keep_checkpoints`. Where the
    score has not risen for `patience` checkpoints, `on_stall` says what happens: the run ends
    ("stop"), or it goes on with the weights of all levels halved, as often as that happens
    ("fade"). A `patience` of 0 lets it go on as it is.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    fused_optimiser: bool = False
    compile: bool = False
    decode_threads: int = 2
    log_every: int = 10
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    select_by: SelectBy = "last"
    keep_best: int = 1
    patience: int = 0
    on_stall: OnStall = "stop"

    def __post_init__(self) -> None:
        check_least(self, 1.0, "log_every", "checkpoint_every", "keep_checkpoints", "keep_best")
        check_least(self, 0.0, "decode_threads", "patience")
        check_choices(self, select_by=SelectBy, on_stall=OnStall)
        if self.patience and self.select_by != "quality":
            raise ValueError(f"patience: got {self.patience}, want select_by 'quality' with it")
        if self.on_stall == "fade" and not self.patience:
            raise ValueError("on_stall: got 'fade' with patience 0, want 1 or more")


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """How the shards reach the workers; not part of the experiment's digest.

    Whatever is chosen, the same samples are trained on in the same order: those of the plan, but
    for bad rows.

    - `mode`: "resident" reads the encoded images once into the cluster's memory, "streaming" reads
      each sample shortly before it is used; "auto" takes resident where the data fit.
    - `decode`: "worker" decodes in threads beside the training, "cluster" in tasks on any node
      (more to send: for GPU nodes that are short of CPUs).
    - `ahead_mb`: streaming: what is kept ready for each worker and domain, in MB.
    - `on_bad_row`, `max_bad_rows`: a sample that cannot be read ends the run, or is replaced by
      the next one, up to so many different ones per worker and domain.
    """

    mode: Literal["auto", "resident", "streaming"] = "auto"
    decode: Literal["worker", "cluster"] = "worker"
    ahead_mb: float = 128.0
    on_bad_row: Literal["fail", "skip"] = "fail"
    max_bad_rows: int = 10

    def __post_init__(self) -> None:
        if self.mode == "resident" and self.decode == "cluster":
            raise ValueError("decode: got 'cluster' with mode 'resident', want mode 'streaming'")
        if not self.ahead_mb > 0:
            raise ValueError(f"ahead_mb: got {self.ahead_mb}, want more than 0")
        if self.max_bad_rows < 0:
            raise ValueError(f"max_bad_rows: got {self.max_bad_rows}, want 0 or more")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One experiment. `batch_size` counts images of each domain over all workers."""

    name: str
    seed: int = 0
    steps: int
    batch_size: int
    data: DataConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    losses: tuple[Loss, ...]
    levels: tuple[Level, ...] = ()
    optim: OptimConfig = field(default_factory=OptimConfig)
    evaluated: Literal["student", "teacher"] = "student"
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.seed < 0:
            raise ValueError(
                f"steps, batch_size, seed: got {self.steps}, {self.batch_size}, {self.seed}, "
                "want at least 1, 1, 0"
            )
        if self.model.num_classes != NUM_CLASSES:
            raise ValueError(
                f"model.num_classes: got {self.model.num_classes}, want the labels' {NUM_CLASSES}"
            )
        if all(loss.weight.is_off for loss in self.losses):
            raise ValueError(
                "losses: every loss is off; want at least losses.supervised.weight > 0"
            )
        for field_name in ("losses", "levels"):
            names = [part.name for part in getattr(self, field_name)]
            if len(set(names)) < len(names):
                raise ValueError(f"{field_name}: got {', '.join(names)}, want each name once")
        if taken := [level.name for level in self.levels if level.name in LOSSES]:
            # Their figures would share the names under which they are logged.
            raise ValueError(f"levels: got {', '.join(taken)}, want names that no loss has")
        if self.runtime.on_stall == "fade" and all(level.weight.is_off for level in self.levels):
            raise ValueError(
                "runtime.on_stall: got 'fade' without a level to fade, want levels or 'stop'"
            )

    def to_json(self) -> str:
        """The whole tree as JSON text; `from_json` reads it back to an equal tree."""
        return json.dumps(to_plain(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, path: Path) -> "Config":
        """The config in a file written by `to_json`.

        Raises:
            UserError: the file is missing, is no JSON, or holds an unknown or ill-typed path.
        """
        try:
            plain = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"config {path}: cannot be read ({error})") from None
        try:
            return from_plain(cls, plain)
        except UserError as error:
            raise UserError(f"config {path}: {error}") from None

    def digest(self) -> str:
        """Twelve hex digits that name the experiment; the same wherever and however it runs."""
        # Through the types once: a preset that says 1 where a float belongs equals its own JSON.
        plain = to_plain(from_plain(type(self), to_plain(self)))
        # Left out whole: what comes to them names nothing new.
        del plain["runtime"], plain["ingest"]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]

    def local_batch_size(self, num_workers: int) -> int:
        """Images of each domain per worker.

        Raises:
            UserError: the global batch does not divide by the workers.
        """
        if num_workers < 1 or self.batch_size % num_workers:
            fitting = [n for n in range(1, self.batch_size + 1) if self.batch_size % n == 0]
            raise UserError(
                f"workers: got {num_workers}, but batch_size = {self.batch_size} does not divide "
                f"by it; have {', '.join(map(str, fitting))}"
            )
        return self.batch_size // num_workers
