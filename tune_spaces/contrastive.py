"""Which contrast of class distributions helps most: how strong, of what regions, by which pairs?"""

from tune_spaces.domains import choice, loguniform, of_run, uniform
from tune_spaces.space import Space, where

_LOSS = "losses.contrastive"

CONTRASTIVE = Space(
    question="Which contrast of class distributions helps most?",
    preset="streets_full",
    domains={
        f"{_LOSS}.weight": loguniform(0.03, 3.0),
        f"{_LOSS}.weight.start": of_run(0.0, 0.5),
        f"{_LOSS}.temperature": loguniform(0.03, 1.0),
        f"{_LOSS}.objective": choice("supcon", "regression"),
        f"{_LOSS}.target_temperature": loguniform(0.03, 1.0),
        # Apart, so that every pair fits. Wide: each similarity has other values for the same pair.
        f"{_LOSS}.negative": uniform(0.02, 0.35),
        f"{_LOSS}.positive": uniform(0.4, 0.95),
        f"{_LOSS}.similarity": choice("overlap", "jaccard", "bhattacharyya", "jensen_shannon"),
        f"{_LOSS}.grid": choice((1, 2), (2, 2), (2, 4), (4, 4), (4, 8)),
        f"{_LOSS}.whole_image": choice(True, False),
        f"{_LOSS}.queue": choice(0, 64, 256, 1024),
        f"{_LOSS}.pooling": choice("class", "mean"),
        f"{_LOSS}.presence": choice(0.0, 0.01, 0.03),
        f"{_LOSS}.power": uniform(0.25, 1.0),
        f"{_LOSS}.idf": choice(True, False),
    },
    conditions={
        f"{_LOSS}.target_temperature": where(f"{_LOSS}.objective", "regression"),
        f"{_LOSS}.negative": where(f"{_LOSS}.objective", "supcon"),
        f"{_LOSS}.positive": where(f"{_LOSS}.objective", "supcon"),
    },
)
