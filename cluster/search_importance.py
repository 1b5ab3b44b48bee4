"""Which parameters matter: PED-ANOVA of Optuna (Watanabe et al., IJCAI 2023) on finished trials."""

import warnings
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial

from cluster.trials import Search, Trial, Value

FEWEST_TRIALS = 10  # the best half of them are the five that Optuna's authors want at least
_FEWEST_BEST = 5
_BEST_SHARE = 0.1  # as in the paper, where there are trials enough
_SWITCH = " is 0"  # no path ends so
_IS_ZERO = CategoricalDistribution((False, True))


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Shares by path, the greatest first: what tells the `num_best` trials from all `num_trials`.

    No shares where nothing can be said: too few trials, or no parameter tells them apart.
    """

    shares: dict[str, float]
    num_trials: int
    num_best: int


def importance(search: Search) -> Importance:
    """By the metric of the search. Trials that were stopped early count not: they had less time."""
    trials = [
        frozen
        for trial in search.trials
        if trial.status == "finished" and (frozen := _frozen(search, trial))
    ]
    num_best = max(_FEWEST_BEST, round(_BEST_SHARE * len(trials)))
    if len(trials) < FEWEST_TRIALS:
        return Importance(shares={}, num_trials=len(trials), num_best=num_best)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(num_best - 0.5) / len(trials))
    with warnings.catch_warnings():
        # That normalising is experimental (here it is off), and that a parameter was seldom set,
        # which the report shows in its slices.
        warnings.simplefilter("ignore")
        found = get_param_importances(_study(trials), evaluator=evaluator, normalize=False)
    total = sum(found.values())
    shares: dict[str, float] = {}
    for name, share in found.items() if total > 0 else ():
        path = name.removesuffix(_SWITCH)
        shares[path] = shares.get(path, 0.0) + share / total
    falling = dict(sorted(shares.items(), key=lambda each: -each[1]))
    return Importance(shares=falling, num_trials=len(trials), num_best=num_best)


def _frozen(search: Search, trial: Trial) -> FrozenTrial | None:
    """None for one without a value, for the hand-set preset, and for what was not drawn.

    A number that may be 0 as well is two parameters: whether it is 0, and the number where it is
    not. Its share is the sum of theirs.
    """
    value, axes = trial.value(search.metric), {axis.path: axis for axis in search.axes}
    if value is None or not trial.changes or not trial.changes.keys() <= axes.keys():
        return None
    drawn: dict[str, Value] = {}
    domains: dict[str, BaseDistribution] = {}
    for path, change in trial.changes.items():
        if axes[path].or_zero:
            drawn[path + _SWITCH], domains[path + _SWITCH] = change == 0, _IS_ZERO
        if not (axes[path].or_zero and change == 0):
            drawn[path], domains[path] = change, axes[path].domain
    try:
        return create_trial(params=drawn, distributions=domains, value=value)
    except ValueError:  # a value from outside, such as a starting point that somebody has set
        return None


def _study(trials: list[FrozenTrial]) -> optuna.Study:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce a new study
    try:
        study = optuna.create_study(direction="maximize")
        study.add_trials(trials)
    finally:
        optuna.logging.set_verbosity(before)
    return study
