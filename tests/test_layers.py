"""Who may import whom: read from the source, so that imports inside functions count too.

A new module of `uda` gets a place in `LAYERS`; nothing else in this file changes.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Inside `uda`, a module imports from its own layer and from those above it in this table. A folder
# stands for all its modules.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("types", "classes", "randomness", "schedule", "distributed"),
    ("data", "models", "losses"),
    ("tree", "config", "presets"),
    ("scene", "adversaries"),
    ("task", "optim", "counting", "metrics", "instances", "official", "tally", "quality"),
    ("checkpoint", "segmentron", "segmentron_log", "inference", "report", "pictures", "journal"),
    (
        "convert",
        "watch",
        "loop",
        "feed",
        "label_maps",
        "evaluate",
        "observe",
        "distributions",
        "selection",
    ),
    ("judge", "exhibition", "predict", "run", "solo", "inspect_shards"),
    ("arguments", "scoring_arguments", "score_arguments", "__main__"),
)
STRANGERS = {"data", "models", "losses"}  # one layer, and yet they never import each other
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}

# What each package may not import, and for `tune_spaces` all that it may.
FORBIDDEN = {
    "uda": ("ray", "cluster", "tune_spaces", "tests"),
    "cluster": ("uda.losses", "tests"),
}
TUNE_SPACES_MAY = (
    *("uda.config", "uda.presets", "uda.schedule", "uda.tree", "uda.types"),
    *("optuna", "tune_spaces"),
)


# What holds labels that may be the target's, and the only modules that may know of it.
TRUTH = ("uda.types.Truth", "uda.data.official", "uda.data.examples", "uda.tally")
TRUTH_READERS = {
    *("uda.data.cityscapes", "uda.data.official", "uda.data.examples", "uda.tally"),
    *("uda.evaluate", "uda.judge", "uda.exhibition", "uda.report", "uda.segmentron_log"),
    *("uda.scoring_arguments", "cluster.evaluate"),
}


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that is imported; `from a import b` counts as `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{package}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield node.lineno, ast.unparse(node.args[0]).strip("'\"")


def violations(module: str, source: str) -> list[str]:
    """One line for each import that `module` (dotted name) should not make."""
    package = module.partition(".")[0]
    found = []
    for line, name in imports(source):
        if name.startswith("."):
            reason = "imports are absolute here"
        elif any(_inside(name, other) for other in FORBIDDEN.get(package, ())):
            reason = f"{package} must not know it"
        elif package == "tune_spaces" and not _allowed_in_tune_spaces(name):
            reason = f"tune_spaces may import only {', '.join(TUNE_SPACES_MAY)}"
        elif any(_inside(name, t) for t in TRUTH) and module not in TRUTH_READERS:
            reason = "labels are for evaluation alone: see TRUTH in tests/test_layers.py"
        elif package == "uda" and name.startswith("uda."):
            reason = _wrong_layer(module, name)
        else:
            reason = ""
        if reason:
            found.append(f"{module}, line {line}: imports {name}; {reason}")
    return found


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _allowed_in_tune_spaces(name: str) -> bool:
    standard = name.partition(".")[0] in sys.stdlib_module_names
    return standard or any(_inside(name, allowed) for allowed in TUNE_SPACES_MAY)


def _wrong_layer(module: str, imported: str) -> str:
    """Why `module` may not import `imported`, both inside `uda`; empty where it may."""
    here, there = _part(module), _part(imported)
    if there.startswith("__version"):
        return ""
    if not here:
        return "uda/__init__.py imports nothing of uda, to be quick"
    if there not in LEVEL:
        return f"uda.{there} has no place in LAYERS of tests/test_layers.py"
    if here in STRANGERS and there in STRANGERS and here != there:
        return f"{', '.join(sorted(STRANGERS))} do not import each other"
    if LEVEL[there] > LEVEL.get(here, len(LAYERS)):
        return f"{there} stands right of {here}: see LAYERS in tests/test_layers.py"
    return ""


def _part(module: str) -> str:
    """`uda.data.shards` -> `data`; empty for `uda` itself."""
    return module.partition(".")[2].partition(".")[0]


def _modules(package: str) -> dict[str, str]:
    """Source of all modules of a package by dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


@pytest.mark.parametrize("package", ["uda", "cluster", "tune_spaces"])
def test_imports_go_one_way(package):
    modules = _modules(package)
    assert modules, f"{package}/ has no module: is this the right folder?"
    wrong = [line for module, source in modules.items() for line in violations(module, source)]
    assert not wrong, "\n".join(wrong)


def test_every_module_of_uda_has_a_layer():
    parts = {_part(module) for module in _modules("uda")} - {""}
    unlisted = sorted(parts - LEVEL.keys())
    assert not unlisted, f"give {unlisted} a place in LAYERS of tests/test_layers.py"


def test_every_layer_entry_exists():
    parts = {_part(module) for module in _modules("uda")}
    stale = sorted(LEVEL.keys() - parts)
    assert not stale, f"remove {stale} from LAYERS in tests/test_layers.py: not in uda/"


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("uda.loop", "import ray.train", "uda must not know it"),
        ("uda.loop", "def f():\n    from ray import train", "uda must not know it"),
        ("uda.loop", "import importlib\nimportlib.import_module('ray')", "uda must not know it"),
        ("uda.task", "from cluster.worker import RayWorker", "uda must not know it"),
        ("uda.task", "from tests.reference import miou", "uda must not know it"),
        ("uda.types", "from uda.config import Config", "stands right of"),
        ("uda.data.shards", "from uda import config", "stands right of"),
        ("uda.config", "import uda.task", "stands right of"),
        ("uda.losses.masked", "from uda.data.mixing import paste", "do not import each other"),
        ("uda.models.teacher", "from uda import losses", "do not import each other"),
        ("uda.metrics", "from .classes import IGNORE", "absolute"),
        ("uda.loop", "from uda.unheard import of", "no place in LAYERS"),
        ("uda", "from uda.types import Batch", "to be quick"),
        ("uda.loop", "from uda.data.examples import open_examples", "for evaluation alone"),
        ("uda.scene", "from uda.types import Batch, Truth", "for evaluation alone"),
        ("cluster.train", "from uda.tally import Tally", "for evaluation alone"),
        ("cluster.train", "from uda.losses import LOSSES", "cluster must not know it"),
        ("cluster.train", "from uda import losses", "cluster must not know it"),
        ("tune_spaces.weights", "import torch", "may import only"),
        ("tune_spaces.weights", "from ray import tune", "may import only"),
        ("tune_spaces.weights", "from uda.task import AdaptationTask", "may import only"),
    ],
)
def test_planted_violation_is_caught(module, source, reason):
    (found,) = violations(module, source)
    assert reason in found
    assert f"{module}, line {source.count(chr(10)) + 1}:" in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("uda.data.shards", "from uda.types import Sample\nfrom uda.data.manifest import Manifest"),
        ("uda.loop", "import torch\nfrom uda import __version__, checkpoint, task"),
        ("uda.task", "from uda.losses import LOSSES\nfrom uda.models.teacher import Teacher"),
        ("uda.data.rays", "import raytracer  # not ray"),
        ("cluster.train", "import ray\nfrom uda.loop import train\nfrom tune_spaces import SPACES"),
        ("tune_spaces.weights", "import math\nimport optuna\nfrom uda.config import Config"),
    ],
)
def test_rightful_imports_pass(module, source):
    assert violations(module, source) == []
