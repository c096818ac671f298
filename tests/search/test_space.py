"""Which plugins and parameters are searched."""

from __future__ import annotations

import json
import pickle

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial
from sklearn.decomposition import PCA

import metafe
from metafe import MetaFeatureExtractor, MetafeError
from metafe.algorithms import MAML
from metafe.backbones import MLP, SklearnTransformer
from metafe.contracts import (
    Augmentation,
    Backbone,
    Categorical,
    Encoder,
    Float,
    Int,
    MetaAlgorithm,
    PluginContractError,
    PluginLoadWarning,
    Problem,
    TaskData,
    TaskSource,
    When,
)
from metafe.decisions import Decisions
from metafe.plugins import registry
from metafe.search.attributes import BASELINE, GIVEN
from metafe.search.baselines import baselines, default_recipes, enqueue_first
from metafe.search.choosing import nearest
from metafe.search.options import effective_parameters
from metafe.search.space import Space


def rows_of(kind="classification", shape=(12,), n=120):
    """Return task data of six classes, of continuous targets or of neither."""
    rng = np.random.default_rng(0)
    y = {"classification": np.tile(np.arange(6), n // 6), "regression": rng.normal(size=(n, 1)), "unlabelled": None}
    return TaskData(rng.normal(size=(n, *shape)), y[kind], None, np.arange(n))


def space_of(data=None, template=None, **narrowed):
    """Return the space of data."""
    return Space.for_data(data or rows_of(), template or MetaFeatureExtractor(), **narrowed)


def drawn(space, n=60, seed=0):
    """Return the parameters of random trials, and what each of them chose."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    trials = [study.ask() for _ in range(n)]
    return [(space.suggest(trial), trial.params) for trial in trials]


@pytest.fixture(autouse=True, scope="module")
def _quiet_optuna():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize("kind", ["classification", "regression", "unlabelled"])
@pytest.mark.parametrize("shape", [(12,), (8, 8)])
def test_every_trial_can_be_set_on_an_extractor_and_found_again(kind, shape):
    space = space_of(rows_of(kind, shape))
    for parameters, chosen in drawn(space):
        MetaFeatureExtractor().set_params(**parameters)
        assert space.from_json(json.loads(json.dumps(space.to_json(parameters)))) == parameters
        assert space.fixed(parameters) == chosen
        assert space.suggest(FixedTrial(chosen)) == parameters


def test_a_parameter_exists_only_under_its_parent():
    for parameters, _ in drawn(space_of()):
        owners = {name.split("__")[0]: parameters[name.split("__")[0]] for name in parameters if "__" in name}
        extractor = MetaFeatureExtractor().set_params(**parameters)
        assert all(isinstance(owner, str) for owner in owners.values())
        assert {name for name in parameters if "__" in name} <= extractor.get_params().keys()


def test_all_that_accepts_the_data_is_searched():
    parameters = [p for p, _ in drawn(space_of(rows_of(shape=(8, 8))), n=300)]
    assert {"mlp", "conv4"} <= {p["backbone"] for p in parameters}
    assert {"protonet", "maml", "supervised", "r2d2"} <= {p["algorithm"] for p in parameters}
    assert {"classes", "clusters", "augment"} <= {p.get("tasks") for p in parameters}


def test_what_trains_nothing_is_listed_and_not_drawn():
    space = space_of()
    listed = {(p["backbone"], *(v for k, v in p.items() if k.startswith("backbone__"))) for p in space.list_settings()}
    assert {("identity", "all"), ("sklearn", "nystroem"), ("sklearn", "nca")} <= listed
    assert not {"identity", "sklearn"} & {p["backbone"] for p, _ in drawn(space)}


def test_what_trains_nothing_is_drawn_where_nothing_else_is_left():
    parameters = [p for p, _ in drawn(space_of(backbones=["identity"]))]
    assert {p["backbone__scaling"] for p in parameters} == {"feature", "all"}
    assert all(p["algorithm"] == "untrained" and p["validation_fraction"] == 0 for p in parameters)


def test_names_narrow():
    parameters = [p for p, _ in drawn(space_of(backbones=["mlp"], algorithms=["maml", "anil"], tasks="classes"))]
    assert {p["backbone"] for p in parameters} == {"mlp"}
    assert {p["algorithm"] for p in parameters} == {"maml", "anil"}
    assert {p["tasks"] for p in parameters} == {"classes"}


def test_the_extractor_narrows():
    template = MetaFeatureExtractor("mlp", learning_rate=0.01, augment=None)
    parameters = [p for p, _ in drawn(space_of(template=template))]
    assert {p["backbone"] for p in parameters} == {"mlp"}
    assert not any("learning_rate" in p or "augment" in p for p in parameters)


def test_a_learning_rate_is_searched_for_the_optimizer_of_the_extractor():
    template = MetaFeatureExtractor("mlp", "reptile", optimizer="adam")
    space = space_of(template=template)
    rates = []
    for parameters, _ in drawn(space):
        rates.append(parameters.pop("learning_rate"))
        assert space.contains(parameters)
    assert 0 < min(rates) < max(rates) < 0.01


def test_an_object_keeps_what_was_set():
    space = space_of(backbones=[MLP(width=7)], algorithms=[MAML(n_steps=2)])
    for parameters, _ in drawn(space):
        assert parameters["backbone__width"] == 7
        assert parameters["algorithm__n_steps"] == 2
    assert len({p["backbone__depth"] for p, _ in drawn(space)}) > 1


def test_two_objects_of_one_name_are_numbered():
    space = space_of(backbones=[MLP(depth=1), MLP(depth=3)])
    assert {(c["backbone"], p["backbone__depth"]) for p, c in drawn(space)} == {("mlp", 1), ("mlp 2", 3)}


def test_an_object_that_no_name_describes_is_kept():
    space = space_of(backbones=[SklearnTransformer(PCA(2)), SklearnTransformer(PCA(3)), "mlp"])
    stored = [space.to_json(p) for p in space.list_settings()]
    assert [p["backbone"] for p in stored] == ["object sklearn", "object sklearn 2"]
    assert [space.from_json(p)["backbone"].transformer.n_components for p in stored] == [2, 3]


def test_ranges_are_overridden_and_values_fixed():
    ranges = {"mlp": {"width": Int(4, 5), "dropout": 0.25, "activation": Categorical(["relu", "tanh"])}}
    parameters = [p for p, _ in drawn(space_of(backbones=ranges))]
    assert {p["backbone__width"] for p in parameters} == {4, 5}
    assert {p["backbone__dropout"] for p in parameters} == {0.25}
    assert {p["backbone__activation"] for p in parameters} == {"relu", "tanh"}


def test_each_augmentation_is_searched_over_its_own_ranges():
    found = [p for p, _ in drawn(space_of(backbones=["mlp"], tasks="classes"), n=200)]
    assert {p["augment"] for p in found} == {"auto", None, "noise", "feature-dropout"}
    scales = [p["augment__scale"] for p in found if p["augment"] == "noise"]
    assert len(set(scales)) == len(scales) > 10
    assert not any("augment__scale" in p for p in found if p["augment"] != "noise")


def test_augmentations_are_those_that_accept_what_the_backbone_encodes():
    found = [p for p, _ in drawn(space_of(rows_of(shape=(8, 8)), backbones=["mlp", "conv4"], tasks="classes"), n=300)]
    by_backbone = {name: {p["augment"] for p in found if p["backbone"] == name} for name in ("mlp", "conv4")}
    assert {"affine", "rotate90"} <= by_backbone["conv4"]
    assert not {"affine", "rotate90"} & by_backbone["mlp"]


def test_an_augmentation_of_ones_own_is_searched():
    @metafe.register
    class Own(Augmentation):
        name = "own-for-test-space"

        def __init__(self, share=0.5):
            self.share = share

        def search_space(self, problem):
            return {"share": Float(0.1, 0.1 * problem.input_shape[0])}

    found = [p for p, _ in drawn(space_of(), n=200) if p.get("augment") == Own.name]
    assert len({p["augment__share"] for p in found}) > 1
    assert max(p["augment__share"] for p in found) <= 1.2


def test_an_encoder_says_which_augmentations_suit_its_rows():
    class Spectra(Encoder):
        name = "spectra-for-test-space"
        default_augment = ("noise",)
        further_augment = ("feature-dropout",)

    found = [p for p, _ in drawn(space_of(encoder=Spectra(), tasks="classes"), n=200)]
    assert {p["augment"] for p in found} == {"auto", None, "noise", "feature-dropout"}


def test_an_encoder_brings_a_backbone_that_shares_its_settings():
    class Words(Encoder):
        name = "words-with-backbone-for-test-space"

        def __init__(self, width=24):
            self.width = width

        @property
        def default_backbone(self):
            return MLP(width=self.width)

    for spec, width in (("auto", 24), ("mlp", 24), (MLP(width=8), 8)):
        assert Decisions(encoder=Words()).backbone(spec, rows_of().x, "classification").width == width
    space, data = space_of(encoder=Words()), rows_of()
    (mlp,) = [option for option in space.backbones if option.plugin.name == "mlp"]
    assert mlp.plugin.width == 24
    assert default_recipes(space, data, Words())[0]["backbone__width"] == 24
    assert baselines(space, data, Words())["supervised"]["backbone__width"] == 24
    narrowed = space_of(encoder=Words(), backbones=["identity"])
    assert baselines(narrowed, data, Words())["supervised"]["backbone__width"] == 24
    named = space_of(encoder=Words(), backbones=[MLP(width=8)])
    assert baselines(named, data, Words())["supervised"]["backbone__width"] == 8


@pytest.mark.parametrize("knows_its_rows", [True, False])
def test_tasks_of_augmented_copies_need_an_encoder_whose_rows_are_augmented(knows_its_rows):
    class Words(Encoder):
        name = "words-for-test-space"
        default_augment = ()

    class Fitted(MLP):
        name = "fitted-for-test-space"

        def fit(self, X, y, seeds):
            return self

    backbone = MLP() if knows_its_rows else Fitted()
    found = {
        label: {p["tasks"] for p, _ in drawn(space_of(rows_of("unlabelled"), backbones=[backbone], encoder=encoder))}
        for label, encoder in (("words", Words()), ("any", None))
    }
    assert found == {"words": {"clusters", "columns"}, "any": {"clusters", "columns", "augment"}}


def test_a_condition_decides_whether_a_parameter_exists():
    ranges = {"anil": {"momentum": When(Float(0.5, 0.9), {"first_order": [True]})}}
    for parameters, _ in drawn(space_of(algorithms=ranges)):
        assert ("algorithm__momentum" in parameters) == parameters["algorithm__first_order"]


def test_a_condition_may_be_about_what_is_fixed():
    ranges = {"anil": {"first_order": False, "momentum": When(Float(0.5, 0.9), {"first_order": [True]})}}
    assert not any("algorithm__momentum" in p for p, _ in drawn(space_of(algorithms=ranges)))


def test_choices_of_one_name_are_the_same_for_every_parent():
    choices = {}
    for space in (space_of(), space_of(rows_of(shape=(8, 8))), space_of(rows_of("unlabelled"))):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
        for _ in range(200):
            trial = study.ask()
            space.suggest(trial)
            for name, distribution in trial.distributions.items():
                assert choices.setdefault(name, distribution) == distribution
        choices.clear()


def test_ranges_end_where_the_data_does():
    small = space_of(rows_of(n=24), tasks=["clusters"])
    assert max(p["tasks__n_way"] for p, _ in drawn(small) if "tasks__n_way" in p) == 12


def test_a_plugin_of_ones_own_is_searched():
    @metafe.register
    class Wide(Backbone):
        name = "wide-for-test-space"

        def __init__(self, width=3):
            self.width = width

        def search_space(self, problem):
            return {"width": Int(2, 9)}

        def build(self, input_shape):
            from torch import nn

            return nn.Linear(input_shape[0], self.width)

    found = [p for p, _ in drawn(space_of()) if p["backbone"] == Wide.name]
    assert len({p["backbone__width"] for p in found}) > 1


def _raise(self, *arguments):
    raise ZeroDivisionError("no reason")


@pytest.fixture
def install(monkeypatch):
    """A function that installs a class which has something else in the place of a method, until the test is over."""
    monkeypatch.setattr(registry(), "_entries", dict(registry()._entries))

    def installed(base, method, instead):
        members = {"__init__": lambda self: None, "name": "broken", method: instead}
        registry().register(type("Broken", (base,), members), "their-package", "1.2")

    return installed


class _Tasks(TaskSource):
    """What a task source cannot do without."""

    name = "sound-for-test-space"

    def problem(self, data, input_shape):
        return Problem("classification", input_shape, n_classes=2, max_way=2)


BROKEN = [
    (Backbone, "__init__", _raise),
    (Backbone, "search_space", _raise),
    (Backbone, "search_space", lambda self, problem: None),
    (Backbone, "search_space", lambda self, problem: {"width": Int(1, 2)}),
    (Backbone, "accepts", _raise),
    (Backbone, "encode", _raise),
    (Backbone, "encode", lambda self, X: None),
    (MetaAlgorithm, "__init__", _raise),
    (MetaAlgorithm, "search_space", _raise),
    (MetaAlgorithm, "accepts", _raise),
    (MetaAlgorithm, "training_defaults", _raise),
    (_Tasks, "accepts", _raise),
    (_Tasks, "problem", _raise),
    (_Tasks, "row_labels", _raise),
]


@pytest.mark.parametrize(("base", "method", "instead"), [*BROKEN, (Augmentation, "accepts", _raise)])
def test_a_search_goes_on_without_an_installed_plugin_that_raises(install, base, method, instead):
    expected = space_of().describe()
    install(base, method, instead)
    with pytest.warns(PluginLoadWarning, match=r"'broken' of their-package 1\.2 .* goes on without it") as warned:
        assert space_of().describe() == expected
    assert len(warned) == 1


@pytest.mark.parametrize(("base", "method", "instead"), BROKEN)
def test_a_named_plugin_that_raises_is_one_error(install, base, method, instead):
    install(base, method, instead)
    argument = {Backbone: "backbones", MetaAlgorithm: "algorithms", _Tasks: "tasks"}[base]
    with pytest.raises(PluginContractError, match="'broken'") as caught:
        space_of(**{argument: ["broken"]})
    if instead is _raise:
        assert str(caught.value.__cause__) == "no reason"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("narrowed", "message"),
    [
        ({"backbones": ["mpl"]}, "Did you mean 'mlp'"),
        ({"backbones": {"mlp": {"witdh": 3}}}, "Did you mean 'width'"),
        ({"backbones": {"mlp": {"width": (8, 16)}}}, r"Write Int\(8, 16\) of"),
        ({"backbones": {"mlp": {"dropout": (0.0, 0.5)}}}, r"Write Float\(0.0, 0.5\) of"),
        ({"backbones": {"mlp": {"activation": ["relu", "tanh"]}}}, r"Write Categorical\(\['relu', 'tanh'\]\) of"),
        ({"backbones": []}, "backbones must name at least one backbone"),
        ({"algorithms": []}, "algorithms must name at least one algorithm"),
        ({"tasks": {}}, "tasks must name at least one task source"),
        ({"backbones": {"mlp": 3}}, "got 3 for 'mlp'"),
        ({"backbones": 3}, "backbones must be"),
        ({"tasks": ["rows"]}, "continuous"),
        ({"backbones": ["conv4"]}, "conv4"),
        ({"algorithms": ["cosine"], "tasks": ["columns"]}, "columns gives a row another label"),
        ({"backbones": ["mlp"], "template": MetaFeatureExtractor("mlp")}, "must not both"),
    ],
)
def test_what_cannot_be_searched_is_one_error(narrowed, message):
    with pytest.raises(MetafeError, match=message):
        space_of(**narrowed)


def test_the_description_depends_on_what_is_searched():
    assert space_of().describe() == space_of().describe()
    assert space_of().describe() != space_of(backbones={"mlp": {"width": Int(4, 5)}}).describe()
    json.dumps(space_of().describe())


def test_default_recipes_are_those_of_the_extractor():
    data = rows_of()
    first = default_recipes(space_of(data), data)[0]
    assert first == {"backbone": "mlp", "tasks": "classes", "algorithm": "protonet", "inputs": "both"}


def _names_of_baselines(data):
    return list(baselines(space_of(data), data))


def test_baselines_fit_the_data():
    assert _names_of_baselines(rows_of()) == [
        "standardised rows",
        "rows on one scale",
        "rows on both scales",
        "PCA",
        "LDA",
        "NCA",
        "supervised",
    ]
    assert _names_of_baselines(rows_of("unlabelled")) == [
        "standardised rows",
        "rows on one scale",
        "rows on both scales",
        "PCA",
    ]
    assert _names_of_baselines(rows_of("regression", (8, 8))) == ["standardised rows", "PCA", "supervised"]


def queued_in(study):
    """Return which baselines the queued trials are, and their backbones."""
    queued = [(t.user_attrs.get(BASELINE), json.loads(t.user_attrs[GIVEN])["backbone"]) for t in study.trials]
    return zip(*queued, strict=True)


def test_all_baselines_come_before_anything_else_where_trials_are_few():
    study, space, data = optuna.create_study(), space_of(), rows_of()
    expected = list(baselines(space, data))
    enqueue_first(study, space, data, len(expected))
    names, _ = queued_in(study)
    assert list(names[: len(expected)]) == expected
    assert not any(names[len(expected) :])


def test_what_is_quick_comes_before_the_baselines_that_are_slow():
    study, space = optuna.create_study(), space_of()
    enqueue_first(study, space, rows_of(), 20)
    names, backbones = queued_in(study)
    slow, quick = names.index("NCA"), [i for i, name in enumerate(backbones) if name == "plda"]
    assert names[slow + 1] == "supervised"
    assert quick
    assert names.index("LDA") < min(quick) <= max(quick) < slow
    assert all(name is None for name in names[slow + 2 :])


def test_the_supervised_baseline_is_a_choice_of_the_space():
    space = space_of()
    parameters = baselines(space, rows_of())["supervised"]
    assert space.contains(parameters)
    assert effective_parameters(space.suggest(FixedTrial(space.fixed(parameters)))) == effective_parameters(parameters)
    assert not space_of(backbones={"mlp": {"width": Int(2, 3)}}).contains(parameters)
    assert space_of(backbones=["identity"]).fixed(parameters) is None


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (Int(2, 5), 9, 5),
        (Int(2, 5), (1, 5), 3),
        (Int(2, 5), None, 5),
        (Float(0.1, 1.0), 0.01, 0.1),
        (Categorical(["a", "b"]), "b", "b"),
        (Categorical(["a", "b"]), "c", "a"),
    ],
)
def test_what_is_outside_a_range_becomes_the_nearest_in_it(distribution, value, expected):
    assert nearest(distribution, value) == expected
