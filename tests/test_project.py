"""The repository as a whole: sizes, promises of the documents, requirements, start-up times."""

import ast
import re
import shlex
import subprocess
import sys
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("uda", "cluster", "tune_spaces")
MAX_FILE_LINES = 320
MAX_FUNCTION_LINES = 60

TEXT_SUFFIXES = {".cfg", ".json", ".md", ".py", ".sh", ".sbatch", ".toml", ".txt", ".yaml", ".yml"}
TEXT_NAMES = {"Dockerfile", "LICENSE", "Makefile", "run"}
NOT_OURS = {
    ".git",
    ".venv",
    ".venv-peers",
    ".venv-official",
    ".hypothesis",
    "build",
    "dist",
    "runs",
}

# An absolute path of somebody's machine; /home/ray is the home in Ray's own container images.
MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:root|work|home)/(?!ray\b)\w")
EXACT = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==\d+(?:\.\w+)*$")


def _sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _texts() -> list[Path]:
    """All text files of the repository that people wrote."""
    return sorted(
        path
        for path in ROOT.rglob("*")
        if not NOT_OURS & {part for part in path.relative_to(ROOT).parts}
        and path.is_file()
        and (path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES)
        and ".egg-info" not in str(path)
    )


def _documents() -> list[Path]:
    return [path for path in _texts() if path.suffix == ".md"]


def _requirements(name: str) -> list[str]:
    """The requirements of a file, without comments and references to other files."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-r ")]


def test_files_are_short():
    lines = {path: len(path.read_text().splitlines()) for path in _sources()}
    assert lines
    long = {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > MAX_FILE_LINES}
    assert not long, f"more than {MAX_FILE_LINES} lines, split by idea: {long}"


def test_functions_are_short():
    long = []
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}")
    assert not long, f"more than {MAX_FUNCTION_LINES} lines, split: {long}"


def test_no_path_of_a_machine():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


def test_machine_path_pattern():
    for folder in ("root", "work", "home"):
        assert MACHINE_PATH.search(f'open("/{folder}/me/x")')
    for innocent in (
        "s3://bucket/data/home/x",
        "/home/ray/app",
        "a/home/b",
        "/workspace/x",
        "../home/x",
    ):
        assert not MACHINE_PATH.search(innocent)


def _commands(text: str, program: str) -> list[str]:
    """What follows `program` where a document shows a command: after a back-tick or in a block."""
    shown = re.findall(r"```[^\n]*\n(.*?)```", text, re.DOTALL)
    shown += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    start = rf"^\s*(?:\$ )?(?:\.venv/bin/)?{program} +([^#|&>\n]+)"
    return [words for block in shown for words in re.findall(start, block, re.MULTILINE)]


def test_make_commands_in_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert {"setup", "demo", "test", "lint", "types"} <= verbs
    for kind, folder in (("bench", "benchmarks"), ("study", "studies")):
        files = (ROOT / "tests" / folder).glob("[a-z]*.py")
        verbs |= {f"{kind}-{path.stem.replace('_', '-')}" for path in files} | {f"{kind}-NAME"}
    missing = [
        f"{path.relative_to(ROOT)}: make {verb}"
        for path in _documents()
        for words in _commands(path.read_text(), "make")
        for verb in shlex.split(words)
        if "=" not in verb and verb not in {*verbs, "VERB"}
    ]
    assert not missing, f"{missing}; have: {sorted(verbs)}"


def test_commands_are_found_in_documents():
    text = "Say `make test`.\n```bash\nmake lint types   # quick\n$ uda demo --out x\n```\nmake no"
    assert _commands(text, "make") == ["lint types   ", "test"]
    assert _commands(text, "uda") == ["demo --out x"]


@pytest.mark.slow
def test_uda_commands_in_documents_exist():
    shown = _uda_help().stdout
    missing = [
        f"{path.relative_to(ROOT)}: uda {words}"
        for path in _documents()
        for words in _commands(path.read_text(), "uda")
        if re.match(r"[a-z]", words) and not re.search(rf"\b{words.split()[0]}\b", shown)
    ]
    assert not missing, missing


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-bench.txt",
        "requirements-official.txt",
    ],
)
def test_requirements_are_exact(name):
    requirements = _requirements(name)
    assert requirements
    loose = [line for line in requirements if not EXACT.match(line)]
    assert not loose, f"{name}: want NAME==VERSION, got {loose}"


def test_imports_are_required():
    """Every third-party package that the code imports stands in requirements.txt."""
    required = {
        EXACT.match(line)[1].lower().replace("_", "-") for line in _requirements("requirements.txt")
    }
    distributions = packages_distributions()
    missing = set()
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {name.partition(".")[0] for name in names}:
                if top in sys.stdlib_module_names or top in PACKAGES:
                    continue
                owners = {d.lower().replace("_", "-") for d in distributions.get(top, [top])}
                if not owners & required:
                    missing.add(f"{path.relative_to(ROOT)}: {top}")
    assert not missing, sorted(missing)


def _best_of_three(*command: str) -> float:
    """Seconds of the quickest of three runs: what it costs, not what else the machine does."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=60)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _uda_help() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster", "--help"]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=60)


@pytest.mark.slow
def test_import_is_quick():
    assert _best_of_three(sys.executable, "-c", "import uda") < 3


@pytest.mark.slow
def test_help_is_quick():
    assert _best_of_three(sys.executable, "-m", "cluster", "--help") < 1
