"""What a score costs is told of the fastest rounds, views apart from the rest."""

from tests.benchmarks.score import PARTS, figures_of, goals


def test_figures_by_hand():
    seconds = dict(zip(PARTS, ([2.0, 1.0], [1.25, 3.0], [4.0, 3.25]), strict=True))
    figures = figures_of(seconds, images=10, views=4)
    assert figures == {
        "ms_per_image": dict(zip(PARTS, (100.0, 125.0, 325.0), strict=True)),
        "views": 4,
        "without_views": 1.25,
        "passes_per_view": 0.5,
        "whole": 3.25,
    }
    met = [goal["met"] for goal in goals(figures | {"statistics_mb": 250.0}).values()]
    assert met == [True, True, False]
