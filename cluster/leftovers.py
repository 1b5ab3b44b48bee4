"""Placement groups of runs whose process was killed: Ray would keep them, with their CPUs and GPUs.

Ray Train removes its workers' group when a run ends by itself. A killed one leaves it behind until
the driver ends, and the next run waits for its place (ray#54305).
"""

from pathlib import Path

import ray
from ray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    remove_placement_group,
)

_FILE = ".placement_group"  # in the run's folder: the id of the group that its workers are in


def note_placement(run: Path) -> None:
    """In a worker: writes down which group it is in."""
    if group := get_current_placement_group():
        (run / _FILE).write_text(group.id.hex())


def remove_placement(run: Path) -> None:
    """Ends whatever the run's last workers have left; nothing where it is gone already."""
    file = run / _FILE
    if file.exists():
        group = ray.PlacementGroupID.from_hex(file.read_text())
        remove_placement_group(PlacementGroup(group))
        file.unlink()
