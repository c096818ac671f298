"""Other studies to start from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from sklearn.datasets import load_digits

from metafe import MetaFeatureExtractor, MetaFeatureSearchCV
from metafe.contracts import InvalidParameterError, SearchError, TaskData
from metafe.search.attributes import GIVEN, OUT_OF_THE_BOX, PARAMETERS
from metafe.search.baselines import default_recipes, enqueue_first
from metafe.search.meta_features import distance, meta_features
from metafe.search.options import effective_parameters
from metafe.search.space import Space
from metafe.search.storage import file_of, make_storage
from metafe.search.warm_start import META_FEATURES, warm_settings

BRIEF = MetaFeatureExtractor("mlp", "protonet", max_steps=5)


def table(n_rows: int, n_values: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % n_classes
    return rng.normal(size=(n_rows, n_values)) + rng.normal(size=(n_classes, n_values))[y], y


def data_of(X: np.ndarray, y: np.ndarray | None) -> TaskData:
    return TaskData(X, y, None, np.arange(len(X)))


def search(X, y, **settings) -> MetaFeatureSearchCV:
    return MetaFeatureSearchCV(BRIEF, n_trials=8, random_state=0, **settings).fit(X, y)


@pytest.fixture(scope="module")
def earlier() -> MetaFeatureSearchCV:
    return search(*table(120, 6, 6))


def test_alike_data_are_near():
    X, y = load_digits(return_X_y=True)
    halves = [meta_features(data_of(X[i::2], y[i::2])) for i in (0, 1)]
    other = meta_features(data_of(*table(60, 4, 3)))
    assert distance(*halves) < 0.3 < distance(halves[0], other)
    assert distance(halves[0], halves[0]) == 0


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (np.zeros((5, 3)), np.array([0, 1, 0, 1, 0])),
        (np.arange(12.0).reshape(6, 2), np.arange(6.0)[:, None]),
        (np.ones((4, 8, 8)), None),
        (["a", "b"], np.array([0, 1])),
    ],
)
def test_any_data_can_be_described(X, y):
    described = meta_features(data_of(X, y))
    assert all(np.isfinite(value) for value in described.values())


def test_descriptions_count_what_they_name():
    described = meta_features(data_of(*table(100, 10, 5)))
    assert described["log10_rows"] == pytest.approx(2)
    assert described["log10_values"] == pytest.approx(1)
    assert described["log10_rows_per_class"] == pytest.approx(np.log10(20))
    assert (described["classification"], described["images"], described["balance"]) == (1, 0, pytest.approx(1))


def test_best_settings_are_tried_right_after_the_baselines(earlier):
    learned = [t for t in earlier.study_.trials if t.value is not None and "baseline" not in t.user_attrs]
    best = max(learned, key=lambda t: (t.state == TrialState.COMPLETE, t.value))
    warm = search(*table(150, 6, 7, seed=1), warm_start_from=earlier)
    n_baselines = sum("baseline" in t.user_attrs for t in warm.study_.trials)
    # What works out of the box is between.
    assert best.params in [trial.params for trial in warm.study_.trials[n_baselines : n_baselines + 2]]


def study_of(features: dict[str, float], *parameters: dict) -> optuna.Study:
    found = optuna.create_study(direction="maximize")
    found.set_user_attr(META_FEATURES, features)
    for one in parameters:
        found.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={PARAMETERS: json.dumps(one)}))
    return found


def test_what_works_out_of_the_box_and_did_best_elsewhere_is_tried_once(earlier):
    usual = {"backbone": "mlp", "algorithm": "protonet", "tasks": "classes"}
    other = study_of(earlier.study_.user_attrs[META_FEATURES], usual)
    warm = search(*table(150, 6, 7, seed=1), warm_start_from=other)
    given = [json.loads(t.user_attrs[GIVEN]) for t in warm.study_.trials if GIVEN in t.user_attrs]
    spelt = [effective_parameters(parameters) for parameters in given]
    assert spelt.count(effective_parameters(usual)) == 1


def test_what_works_out_of_the_box_is_named_so_though_it_did_best_elsewhere(earlier):
    data = data_of(*table(150, 6, 8, seed=1))
    study = optuna.create_study()
    enqueue_first(study, _space(), data, 50, default_recipes(_space(), data))
    named = [json.loads(t.user_attrs[GIVEN]) for t in study.trials if OUT_OF_THE_BOX in t.user_attrs]
    assert default_recipes(_space(), data)[0] in named


def test_a_study_that_goes_on_tries_what_it_has_not_tried(earlier, tmp_path):
    X, y = table(150, 6, 7, seed=1)
    begun = search(X, y, storage=tmp_path / "study.log")
    n_before = len(begun.study_.trials)
    known = {"backbone": "mlp", "algorithm": "protonet", "tasks": "classes", "inputs": "both"}
    found = study_of(earlier.study_.user_attrs[META_FEATURES], known, known | {"backbone__width": 33})
    for n_trials in (9, 10):
        begun.set_params(warm_start_from=found, n_trials=n_trials).fit(X, y)
        added = [t for t in begun.study_.trials[n_before:] if GIVEN in t.user_attrs]
        assert [json.loads(t.user_attrs[GIVEN])["backbone__width"] for t in added] == [33]


def test_the_most_similar_study_comes_first(earlier):
    similar = earlier.study_
    other = optuna.create_study(direction="maximize")
    other.set_user_attr(META_FEATURES, meta_features(data_of(*table(5000, 300, 2))))
    for trial in similar.trials:
        other.add_trial(trial)
    features = similar.user_attrs[META_FEATURES]
    space = _space()
    alone = warm_settings(similar, features, space)
    assert alone
    assert warm_settings([other, similar], features, space)[: len(alone)] == alone


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x.db?mode=ro&uri=true", "postgresql://h/d", "grpc://h:abc"],
)
def test_what_is_no_file_of_ours_is_not_looked_for(url):
    assert file_of(url) is None


@pytest.mark.parametrize(("n_trials", "n_taken"), [(4, 3), (12, 6), (30, 10)])
def test_of_one_study_three_settings_are_taken_and_more_of_the_better_half(n_trials, n_taken):
    usual = {"backbone": "mlp", "algorithm": "protonet", "tasks": "classes", "inputs": "rows"}
    study = study_of({}, *(usual | {"backbone__width": 40 + number} for number in range(n_trials)))
    scored = optuna.create_study(direction="maximize")
    scored.set_user_attr(META_FEATURES, {})
    for trial in study.trials:
        trial.values = [trial.number / 100]
        scored.add_trial(trial)
    widths = [parameters["backbone__width"] for parameters in warm_settings(scored, {}, _space())]
    assert widths == [40 + number for number in range(n_trials - 1, n_trials - 1 - n_taken, -1)]


def test_defaults_of_other_networks_are_not_tried_where_others_tell_more(earlier):
    data = data_of(*table(150, 6, 7, seed=1))
    warm = warm_settings(earlier, earlier.study_.user_attrs[META_FEATURES], _space())
    n_queued = []
    for settings in ([], warm[:1]):
        study = optuna.create_study()
        enqueue_first(study, _space(), data, 50, settings)
        n_queued.append(len(study.trials))
    assert len(default_recipes(_space(), data)) > 2
    assert n_queued[1] == n_queued[0]


def _space():
    return Space.for_data(data_of(*table(120, 6, 6)), BRIEF)


def test_a_url_stands_for_all_studies_of_metafe(tmp_path, earlier):
    url = f"sqlite:///{tmp_path}/studies.db"
    optuna.create_study(study_name="foreign", storage=url)
    with pytest.raises(InvalidParameterError, match="got one without any"):
        warm_settings(url, {}, _space())
    stored = optuna.create_study(study_name="ours", storage=url, direction="maximize")
    stored.set_user_attr(META_FEATURES, earlier.study_.user_attrs[META_FEATURES])
    stored.add_trials(earlier.study_.trials)
    assert warm_settings(url, {}, _space()) == warm_settings(earlier, {}, _space())


@pytest.mark.parametrize(
    "spelt", ["{}/nowhere/study.log", "journal:///{}/nowhere/study.log", "sqlite:///{}/nowhere.db"]
)
def test_a_file_that_is_not_there_is_an_error_and_is_not_made(tmp_path, spelt):
    with pytest.raises(InvalidParameterError, match="of which there is no file"):
        warm_settings(spelt.format(tmp_path), {}, _space())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spelt", [str, Path, "journal:///{}".format, make_storage])
def test_every_storage_of_a_search_can_be_started_from(tmp_path, earlier, spelt):
    path = tmp_path / "study.log"
    stored = optuna.create_study(study_name="ours", storage=make_storage(path), direction="maximize")
    stored.set_user_attr(META_FEATURES, earlier.study_.user_attrs[META_FEATURES])
    stored.add_trials(earlier.study_.trials)
    assert warm_settings(spelt(path), {}, _space()) == warm_settings(earlier, {}, _space())


def test_a_storage_that_cannot_be_reached_is_one_error_without_its_password():
    with pytest.raises(SearchError, match="must be reachable") as caught:
        warm_settings("postgresql+psycopg://me:secret@127.0.0.1:1/studies", {}, _space())
    assert "secret" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_best_are_those_with_the_best_score_whatever_else_was_optimised(earlier):
    several = optuna.create_study(directions=["minimize", "maximize"])
    several.set_metric_names(["latency", "score"])
    several.set_user_attr(META_FEATURES, earlier.study_.user_attrs[META_FEATURES])
    for width, score in {64: 0.2, 128: 0.9, 32: 0.5}.items():
        parameters = {"backbone": "mlp", "backbone__width": width, "algorithm": "protonet", "tasks": "classes"}
        kept = {PARAMETERS: json.dumps(parameters)}
        several.add_trial(optuna.trial.create_trial(values=[-score, score], user_attrs=kept))
    assert [found["backbone__width"] for found in warm_settings(several, {}, _space())] == [128, 32, 64]


def test_what_is_listed_anyway_takes_no_place_among_the_best():
    features = meta_features(data_of(*table(120, 6, 6)))
    plda = {"backbone": "plda", "algorithm": "untrained"}
    networks = [
        {"backbone": "mlp", "algorithm": "protonet", "tasks": "classes", "backbone__width": width}
        for width in (40, 50, 60, 70)
    ]
    other = study_of(features, plda, plda | {"backbone__scaling": "all"}, *networks)
    space = Space.for_data(data_of(*table(120, 6, 6)), MetaFeatureExtractor())
    assert [found.get("backbone__width") for found in warm_settings(other, features, space)] == [40, 50, 60]


def test_what_cannot_be_started_from_is_an_error(earlier):
    X, y = table(120, 6, 6)
    with pytest.raises(InvalidParameterError, match="warm_start_from must be a study"):
        search(X, y, warm_start_from=3)
    with pytest.raises(InvalidParameterError, match="which describe their data"):
        search(X, y, warm_start_from=optuna.create_study())
