"""Judging a network: by quality, which needs no label of the target, and by labels."""

from typing import Any

from uda.classes import CLASS_LISTS
from uda.data.examples import Examples
from uda.data.rows import ShardRows
from uda.evaluate import evaluate_images
from uda.inference import PLAIN, Inference
from uda.judge import judge
from uda.models import DeepLabV3Plus
from uda.observe import observe_source, observe_target
from uda.quality import Evidence, SourceStatistics, Statistics
from uda.quality.score import score
from uda.quality.subset import chosen_images


def quality_of(
    model: DeepLabV3Plus,
    source: ShardRows,
    target: ShardRows,
    images: int,
    *,
    impressions: bool = False,
) -> tuple[dict[str, Any], Statistics]:
    """What is kept of a score from so many `images` of each domain, and what it was made from."""
    chosen = chosen_images(len(target), images)
    seen = sum(observe_target(model, target, chosen, impressions=impressions), Statistics())
    known = sum(
        observe_source(model, source, chosen_images(len(source), images)), SourceStatistics()
    )
    result = score(Evidence(target=seen, source=known))
    return {**result.json(), "whole": seen.whole}, seen


def miou_of(
    model: DeepLabV3Plus, examples: Examples, inference: Inference = PLAIN, *, images: int = 0
) -> float:
    """Mean IoU in per cent on the first `images` labelled ones, 0 for all."""
    count = min(images or len(examples), len(examples))
    class_list = CLASS_LISTS[examples.class_list]
    results = evaluate_images(model, examples, range(count), inference)
    truth = judge(results, count, class_list)
    return round(100 * truth.tally.confusion.miou(class_list), 3)
