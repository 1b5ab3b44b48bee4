"""`make study-contrast`: what each choice in the contrast of class distributions is worth.

Rendered streets, game -> camera: the source's labels and the contrast, nothing else, with one
choice changed at a time. Runs and records as in `make study-ablation`, which also has the contrast
within the whole.
"""

from typing import Any

from tests.studies._runner import main
from tests.studies.ablation import ALL_OFF, PARTS, STREETS, going_on

# Thresholds lie at the quantiles of the default's, by docs/results/pairs.json: 5 % of the pairs
# attract, a quarter to a half repel. Without idf whole images have none that repel.
VARIANTS: dict[str, dict[str, Any]] = {
    "raw_distributions": {"power": 1.0, "presence": 0.0, "idf": False, "positive": 0.84},
    "without_idf": {"idf": False, "positive": 0.8},
    "images_alone": {"grid": [1, 1]},
    "cells_alone": {"whole_image": False},
    "without_queue": {"queue": 0},
    "jaccard": {"similarity": "jaccard", "positive": 0.43, "negative": 0.08},
    "bhattacharyya": {"similarity": "bhattacharyya", "positive": 0.73, "negative": 0.22},
    "jensen_shannon": {"similarity": "jensen_shannon", "positive": 0.71, "negative": 0.2},
    "regression": {"objective": "regression"},
    "mean_pooling": {"pooling": "mean"},
    "weak": {"weight.value": 0.1},
}
CONTRAST = [
    going_on(
        f"contrast_{name}",
        "full",
        {
            **ALL_OFF,
            **PARTS["contrastive"],
            **{f"losses.contrastive.{path}": value for path, value in changes.items()},
        },
    )
    for name, changes in VARIANTS.items()
]
BASE = [e for e in STREETS if e.name in ("only_target_statistics", "only_contrastive")]

if __name__ == "__main__":
    main("contrast", [*BASE, *CONTRAST], __doc__)
