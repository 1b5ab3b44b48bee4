"""Random numbers as a pure function of (seed, purpose, step, sample).

Nothing random is ever saved in a checkpoint: a resumed run draws the same numbers as an
uninterrupted one, and two workers draw together what one worker draws alone. Dropout is the
exception: which channels a worker drops depends on which images it has.
"""

import zlib

import numpy as np
import torch


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """A NumPy generator for one `purpose` at one `position` (such as step, sample)."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *position])


def sample_generators(
    seed: int, purpose: str, step: int, first_sample: int, count: int
) -> list[np.random.Generator]:
    """One generator for each of a worker's `count` images, by their place in the global batch."""
    return [generator(seed, purpose, step, first_sample + i) for i in range(count)]


def seed_torch(seed: int, purpose: str, *position: int) -> None:
    """Seeds torch's global generators (dropout, weight initialisation) for one position."""
    torch.manual_seed(int(generator(seed, purpose, *position).integers(2**63)))
