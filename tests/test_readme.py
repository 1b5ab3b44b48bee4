"""The README's figures are those of the committed records, and its pictures exist."""

import re
from pathlib import Path

import pytest

from tests.studies._readme import PAGES, README, RESULTS, filled


def test_figures_are_those_of_the_records() -> None:
    text = README.read_text()
    assert filled(text, RESULTS) == text, "run `make docs`"


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_pages_are_made_of_the_records(path: Path) -> None:
    assert path.read_text() == PAGES[path](), "run `make docs`"


def test_pictures_and_links_exist() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert targets
    assert [target for target in targets if not Path(target).exists()] == []
