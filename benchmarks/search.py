"""How fast a search gets somewhere, and what it costs beside the trainings.

    python benchmarks/search.py FOLDER [--data soybean keel:letter ...] [--seconds 120] [--seeds 5] [--trials 40] [--steps 200]
        [--algorithms protonet ...] [--part gain cost workers warm]

FOLDER and data are those of search_quality.py; two thirds of the classes are searched with. One thread for each worker in
every arm.

gain     seconds until the best score of finished trials is 95 % of the way to where random search without pruning ends: of the
         default search as users get it, and of random search itself. That tries the standardised rows and then draws everything,
         also what trains nothing, which the default search lists. There are two readings of the same searches: the way begins
         at the standardised rows, or at the best baseline of the default search. A seed in which random search ends no higher
         than the way begins has no ratio.
cost     milliseconds of a trial beside fitting and judging, by storage.
workers  finished trials of two workers over those of one, all trials alike, in turns as often as there are seeds. The start of the
         workers, which a search pays once, is stated apart. Takes at least 120 seconds of each arm to say something.
warm     trials until a search that starts from one of half of the classes is as good, on the other half, as a search from nothing
         is at its end: of all trials, and of searched networks alone. A seed in which that is as good by something that both
         try first, a baseline or what works out of the box, says nothing and does not count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from safe_default import Table, check_names, read
from search_quality import DATA
from threadpoolctl import threadpool_limits

from metafe import MetaFeatureExtractor, MetaFeatureSearchCV
from metafe.contracts import Float
from metafe.search.attributes import GIVEN, is_baseline
from metafe.search.options import trains
from metafe.search.standings import parameters_of

SHARE = 0.95
# The first baseline of every search.
STANDARDISED = "standardised rows"
NO_DROPOUT = Float(1e-9, 2e-9)
COST_TRIALS = 60
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "random": {"sampler": "random", "pruner": "none"},
}


Steps = list[tuple[float, float]]


def gain(X: np.ndarray, y: np.ndarray, seconds: float, seeds: int) -> None:
    """Compare the default search with random search, seed by seed."""
    ratios: dict[str, list[float]] = {}
    for seed in range(seeds):
        found = {}
        for arm, settings in ARMS.items():
            search = MetaFeatureSearchCV(n_trials=100_000, timeout=seconds, refit=False, random_state=seed, **settings)
            with nothing_but_drawn() if arm == "random" else nullcontext():
                found[arm] = search.fit(X, y).study_
        steps = {arm: best_so_far(study) for arm, study in found.items()}
        for name, start in starts(found["default"]).items():
            ratios.setdefault(name, []).append(compare_times(f"seed {seed}, over {name}", start, steps))
    for name, of_seeds in ratios.items():
        n_gained = int(np.sum(~np.isnan(of_seeds)))
        median = statistics.median(r for r in of_seeds if not np.isnan(r)) if n_gained else float("nan")
        print(
            f"over {name}: median ratio {median:.2f} of {n_gained} seeds with a gain (must be at most 0.33)", flush=True
        )


def compare_times(label: str, start: float, steps: dict[str, Steps]) -> float:
    """Print when each search has come as far as random search comes, and return the ratio; NaN where that comes nowhere."""
    ends = {arm: best[-1][1] for arm, best in steps.items()}
    target = start + SHARE * (ends["random"] - start)
    took = {arm: seconds_to(target, best) for arm, best in steps.items()}
    ratio = took["default"] / took["random"] if ends["random"] > start else float("nan")
    gains = {arm: 100 * (end - start) for arm, end in ends.items()}
    print(
        f"{label} ({100 * start:.1f}): target {100 * target:.1f}, default after {took['default']:.1f} s, random after "
        f"{took['random']:.1f} s, ratio {ratio:.2f}; gain at the end {gains['default']:+.1f} and {gains['random']:+.1f} points",
        flush=True,
    )
    return ratio


def starts(study: Study) -> dict[str, float]:
    """Return the scores from which a gain may be counted."""
    baselines = {t.user_attrs["baseline"]: t.value for t in complete_trials(study) if "baseline" in t.user_attrs}
    return {"the standardised rows": baselines[STANDARDISED], "the best baseline": max(baselines.values())}


def best_so_far(study: Study) -> Steps:
    """Return what was the best score of a finished trial at which second."""
    began = min(t.datetime_start for t in study.trials if t.datetime_start is not None)
    ended = sorted(complete_trials(study), key=lambda t: t.datetime_complete)
    best = np.maximum.accumulate([t.value for t in ended])
    return [(_seconds(began, t.datetime_complete), score) for t, score in zip(ended, best, strict=True)]


def complete_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that came to their end."""
    return study.get_trials(states=(TrialState.COMPLETE,))


def _seconds(began: datetime, ended: datetime) -> float:
    return (ended - began).total_seconds()


def seconds_to(target: float, steps: Steps) -> float:
    """Return when a score was reached; infinity for never."""
    return next((second for second, best in steps if best >= target), float("inf"))


@contextmanager
def nothing_but_drawn() -> Iterator[None]:
    """Try the standardised rows, and then nothing that is not drawn, from all that the default search tries."""
    from metafe.search import baselines, space

    every = baselines.baselines
    with (
        patch.object(baselines, "baselines", lambda *given: {STANDARDISED: every(*given)[STANDARDISED]}),
        patch.object(baselines, "default_recipes", lambda *_: []),
        patch.object(space, "_is_listed", lambda _: False),
    ):
        yield


def cost() -> None:
    """Time searches whose trials have next to nothing to do."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 6
    X = rng.normal(size=(60, 4)) + y[:, None]
    brief = MetaFeatureExtractor(max_steps=1, validation_fraction=0.5)
    with tempfile.TemporaryDirectory() as folder:
        for name, storage in {
            "memory": None,
            "journal": f"{folder}/journal.log",
            "sqlite": f"sqlite:///{folder}/study.db",
        }.items():
            search = MetaFeatureSearchCV(
                brief, backbones="mlp", algorithms="protonet", n_trials=COST_TRIALS, storage=storage, random_state=0
            )
            judged = _Stopwatch()
            with judged.around_trainings():
                search.set_params(refit=False)
                began = time.perf_counter()
                search.fit(X, y)
                took = time.perf_counter() - began
            own = 1000 * (took - judged.seconds) / COST_TRIALS
            print(
                f"{name:<8} {own:6.1f} ms a trial beside fitting and judging (must be below 50 for memory and journal)"
            )


class _Stopwatch:
    """How long fitting and judging took in all."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around_trainings(self) -> Any:
        """Time all fitting and judging of trials while a context lasts: for the search, for its finals, and beside the rows."""
        from metafe.search import objective

        stack = ExitStack()
        timed = [(objective.Objective, name) for name in ("fit", "_judge", "_judge_afresh")]
        for owner, name in [*timed, (objective, "judge_beside")]:
            stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name))))
        return stack

    def _timed(self, function: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def workers(X: np.ndarray, y: np.ndarray, seconds: float, repeats: int) -> None:
    """Compare how many trials one and two workers finish, all of which do the same."""
    # All that is searched is drop-out so rare that it never occurs: every trial is the same.
    alike: dict[str, Any] = {
        "extractor": MetaFeatureExtractor(max_steps=100, learning_rate=1e-3, augment=None),
        "backbones": {
            "mlp": {"depth": 2, "width": 64, "n_features": 64, "normalisation": "layer", "dropout": NO_DROPOUT}
        },
        "algorithms": {"protonet": {"distance": "euclidean"}},
        "tasks": {"classes": {"n_way": 5, "n_shot": 1}},
    }
    ratios = []
    for repeat in range(repeats):
        rates = {}
        for n_jobs in (1, 2):
            search = MetaFeatureSearchCV(
                **alike, pruner="none", n_trials=100_000, timeout=seconds, n_jobs=n_jobs, refit=False, random_state=0
            )
            began = datetime.now()
            rates[n_jobs], started = rate_of(search.fit(X, y).study_, n_jobs)
            print(
                f"repeat {repeat}, workers: {n_jobs}   {60 * rates[n_jobs]:6.1f} trials a minute, once all had begun, "
                f"which took {_seconds(began, started):.1f} s",
                flush=True,
            )
        ratios.append(rates[2] / rates[1])
    print(
        f"two workers finish {statistics.median(ratios):.2f} times as many trials as one, from {min(ratios):.2f} to "
        f"{max(ratios):.2f} in {repeats} repeats (must be at least 1.8)"
    )


def rate_of(study: Study, n_workers: int) -> tuple[float, datetime]:
    """Return trials per second from when all workers were at work until the first had no more, and when that began.

    A trial that is partly within counts in part.
    """
    own: dict[int, list[tuple[datetime, datetime]]] = {}
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        if "baseline" not in trial.user_attrs:
            own.setdefault(trial.user_attrs["worker"]["pid"], []).append(
                (trial.datetime_start, trial.datetime_complete)
            )
    begin = max(min(start for start, _ in trials) for trials in own.values())
    end = min(max(end for _, end in trials) for trials in own.values())
    if len(own) < n_workers or end <= begin:
        raise SystemExit("The workers have not been at work at the same time; raise --seconds.")
    shares = [
        max(0.0, _seconds(max(begin, started), min(end, ended))) / _seconds(started, ended)
        for trials in own.values()
        for started, ended in trials
    ]
    return sum(shares) / _seconds(begin, end), begin


def warm(X: np.ndarray, y: np.ndarray, options: argparse.Namespace) -> None:
    """Search half of the classes, then the others from nothing and from what was found."""
    short = MetaFeatureExtractor(max_steps=options.steps)
    trials, algorithms = options.trials, options.algorithms
    classes = np.unique(y)
    shares: dict[str, list[float]] = {name: [] for name in READINGS}
    for seed in range(options.seeds):
        old = np.isin(y, np.random.default_rng(seed).permutation(classes)[: len(classes) // 2])

        def search(which: np.ndarray, others: Any = None, seed: int = seed) -> Study:
            settings = {"n_trials": trials, "refit": False, "warm_start_from": others, "random_state": seed}
            return MetaFeatureSearchCV(short, algorithms=algorithms, **settings).fit(X[which], y[which]).study_

        cold = search(~old)
        warmed = search(~old, search(old))
        for name, counts in READINGS.items():
            share = compare_trials(
                f"seed {seed}, {name}", best_by_trial(cold, counts), best_by_trial(warmed, counts), cold
            )
            shares[name] += [] if share is None else [share]
    for name, of_seeds in shares.items():
        median = statistics.median(of_seeds) if of_seeds else float("nan")
        print(
            f"{name}: median share of the trials {median:.2f} of {len(of_seeds)} seeds that count (must be at most 0.5)",
            flush=True,
        )


def compare_trials(label: str, cold: np.ndarray, warmed: np.ndarray, study: Study) -> float | None:
    """Print after how many trials a warm search is as good as a cold one in the end; return the share, None where it does not count."""
    target = cold[-1]
    first_cold, first_warm = first_reaching(target, cold), first_reaching(target, warmed)
    counts = GIVEN not in study.trials[int(first_cold) - 1].user_attrs
    print(
        f"{label}: after {len(cold)} trials {100 * target:.1f} from nothing, first at trial {first_cold}"
        f"{'' if counts else ', which was not drawn: does not count'}; warm as good at trial {first_warm}, "
        f"{100 * warmed[-1]:.1f} at the end",
        flush=True,
    )
    return first_warm / len(cold) if counts else None


def best_by_trial(study: Study, counts: Callable[[FrozenTrial], bool]) -> np.ndarray:
    """Return the best score of a finished trial that counts after each trial."""
    scores = [t.value if t.state == TrialState.COMPLETE and counts(t) else -np.inf for t in study.trials]
    return np.maximum.accumulate(scores)


def is_searched_network(trial: FrozenTrial) -> bool:
    """Tell whether a trial has trained something, and is no baseline."""
    return not is_baseline(trial.user_attrs) and trains(parameters_of(trial))


READINGS: dict[str, Callable[[FrozenTrial], bool]] = {
    "all trials": lambda trial: True,
    "searched networks": is_searched_network,
}


def first_reaching(target: float, best: np.ndarray) -> float:
    """Return after how many trials a score is reached; infinity for never."""
    reached = np.flatnonzero(best >= target)
    return int(reached[0]) + 1 if len(reached) else float("inf")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="+", default=["soybean"], help=f"of {', '.join(DATA)}, or keel:NAME")
    parser.add_argument("--seconds", type=float, default=120, help="of each search")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40, help="of each search in warm")
    parser.add_argument("--steps", type=int, default=200, help="of each training in warm")
    parser.add_argument("--algorithms", nargs="+", help="that are searched in warm; all by default")
    parts = ["cost", "workers", "gain", "warm"]
    parser.add_argument("--part", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    check_names(parser, options.data, DATA)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        if "cost" in options.part:
            cost()
        for name in options.data if set(options.part) - {"cost"} else []:
            print(name, flush=True)
            of_data(read(name, options.folder, DATA), options)


def of_data(data: Table, options: argparse.Namespace) -> None:
    """Measure the parts that need data."""
    X, y = data
    classes = np.unique(y)
    source = np.isin(y, np.random.default_rng(0).permutation(classes)[: round(len(classes) * 2 / 3)])
    if "workers" in options.part:
        workers(X[source], y[source], options.seconds, options.seeds)
    if "gain" in options.part:
        gain(X[source], y[source], options.seconds, options.seeds)
    if "warm" in options.part:
        warm(X, y, options)


if __name__ == "__main__":
    main()
