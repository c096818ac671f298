"""The registry: three ways to bring a plugin, and what becomes of broken ones."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import textwrap
from importlib.metadata import version

import numpy as np
import pytest
from torch import nn

import metafe
from metafe.contracts import (
    Augmentation,
    Backbone,
    DuplicatePluginError,
    MetafeWarning,
    PluginLoadWarning,
    UnknownPluginError,
)
from metafe.plugins import Registry, hookspecs, registry, resolve
from metafe.search.options import effective_parameters

BACKBONE = """
    from metafe.contracts import Backbone, hookimpl
    from torch import nn

    class {cls}(Backbone):
        name = "{name}"
        def build(self, input_shape):
            return nn.Flatten()

    @hookimpl
    def metafe_register_backbones():
        return [{cls}]
"""
BROKEN = {
    "raises when imported": ("raise RuntimeError('no licence found')", "RuntimeError: no licence found"),
    "misses a library": ("import library_that_nobody_has", "ModuleNotFoundError: No module named"),
    "misspells a hook": (
        """
        from metafe.contracts import hookimpl

        @hookimpl
        def metafe_register_backbone():
            return []
        """,
        "PluginValidationError: unknown hook 'metafe_register_backbone'",
    ),
    "misspells an argument": (
        """
        from metafe.contracts import hookimpl

        @hookimpl
        def metafe_fit_finished(extractor, result):
            pass
        """,
        "PluginValidationError: ",
    ),
    "raises in a hook": (
        """
        from metafe.contracts import hookimpl

        @hookimpl
        def metafe_register_backbones():
            raise KeyError("width")
        """,
        "KeyError: 'width'",
    ),
    "returns an object": (
        BACKBONE.format(cls="Fine", name="fine-{i}").replace("return [Fine]", "return [Fine()]"),
        "TypeError: metafe_register_backbones must return subclasses of Backbone; got Fine()",
    ),
    "returns another kind": (
        """
        from metafe.augmentations import Noise
        from metafe.contracts import hookimpl

        @hookimpl
        def metafe_register_backbones():
            return [Noise]
        """,
        "TypeError: metafe_register_backbones must return subclasses of Backbone; got <class",
    ),
    "returns no list": (
        """
        from metafe.contracts import hookimpl

        @hookimpl
        def metafe_register_backbones():
            return None
        """,
        "TypeError: metafe_register_backbones must return a list of classes; got None",
    ),
    "has no name": (
        BACKBONE.format(cls="Nameless", name=""),
        "TypeError: broken_has_no_name.Nameless must set name to a non-empty string; got ''",
    ),
    "brings a name twice": (
        BACKBONE.format(cls="Twice", name="twice").replace(
            "return [Twice]", "return [Twice, type('Other', (Twice,), {})]"
        ),
        "TypeError: metafe_register_backbones must return one class of each name; got two named 'twice'",
    ),
}
HOOKS = {
    "metafe_register_backbones": [],
    "metafe_register_algorithms": [],
    "metafe_register_task_sources": [],
    "metafe_register_augmentations": [],
    "metafe_register_encoders": [],
    "metafe_fit_started": ["extractor", "settings"],
    "metafe_step_finished": ["extractor", "step", "metrics"],
    "metafe_fit_finished": ["extractor"],
    "metafe_trial_finished": ["trial"],
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that makes an installed distribution of one module, found by this process and by `run`."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, source, number="1.2"):
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-{number}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        (info / "top_level.txt").write_text(f"{module}\n")
        (info / "entry_points.txt").write_text(f"[metafe]\n{name} = {module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    before = set(sys.modules)
    yield write
    for module in set(sys.modules) - before:
        if (tmp_path / f"{module}.py").exists():
            del sys.modules[module]


@pytest.fixture
def run(tmp_path):
    """A function that runs code in a fresh process and returns what it prints, as JSON."""

    def run(code, **environment):
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def shared():
    """The registry of this process, put back afterwards."""
    plugins = registry()
    entries, names = dict(plugins._entries), {name for name, _ in plugins.manager.list_name_plugin()}
    yield plugins
    plugins._entries.clear()
    plugins._entries.update(entries)
    for name in {name for name, _ in plugins.manager.list_name_plugin()} - names:
        plugins.manager.unregister(name=name)


class Doubled(Backbone):
    name = "test-doubled"

    def __init__(self, copies: int = 2) -> None:
        self.copies = copies

    def encode(self, X):
        return np.tile(X, (1, self.copies))

    def build(self, input_shape):
        return nn.Flatten()


def test_an_object_needs_no_registration(small, blobs):
    fitted = small(Doubled(copies=3)).fit(*blobs)
    assert fitted.transform(blobs[0]).shape == (len(blobs[0]), 18)
    assert registry().distribution_of(Doubled)[0] == "script"


def test_a_registered_class_has_a_name(shared, small, blobs):
    assert metafe.register(Doubled) is Doubled
    assert small("test-doubled").fit(*blobs).n_features_out_ == 12
    (info,) = [p for p in shared.listing() if p.name == "test-doubled"]
    assert (info.kind, info.distribution, info.version, info.error) == ("backbone", "script", "", "")


def test_register_is_a_decorator(shared):
    @metafe.register
    class Mirror(Augmentation):
        name = "test-mirror"

    assert shared.get("augmentation", "test-mirror") is Mirror


def test_a_class_registered_again_replaces_itself(shared):
    def cell(width):
        @metafe.register
        class FromANotebook(Doubled):
            name = "test-notebook"
            default = width

        return FromANotebook

    cell(1)
    second = cell(2)
    assert shared.get("backbone", "test-notebook") is second


def test_another_class_of_the_name_is_refused(shared):
    class MLP(Backbone):
        name = "mlp"

    built_in = shared.get("backbone", "mlp")
    with pytest.raises(DuplicatePluginError, match=r"got 'mlp' from both 'metafe' .* and 'script' .* Rename one"):
        metafe.register(MLP)
    assert shared.get("backbone", "mlp") is built_in


@pytest.mark.parametrize("thing", [Doubled(), int, "mlp", None], ids=repr)
def test_only_plugin_classes_can_be_registered(thing):
    with pytest.raises(TypeError, match=r"^A plugin must be a class that derives from one of Backbone, MetaAlgorithm"):
        metafe.register(thing)


def test_a_registered_class_needs_a_name(shared):
    class Nameless(Backbone):
        pass

    with pytest.raises(TypeError, match="must set name to a non-empty string; got None"):
        metafe.register(Nameless)
    assert "Nameless" not in str(shared.manager.list_name_plugin())


def test_an_installed_distribution_is_found_by_its_entry_point(install):
    install("metafe-flat", BACKBONE.format(cls="Flat", name="test-flat"), "3.1")
    plugins = Registry()
    (info,) = [p for p in plugins.listing() if p.name == "test-flat"]
    assert (info.kind, info.distribution, info.version, info.error) == ("backbone", "metafe-flat", "3.1", "")
    assert plugins.distribution_of(plugins.get("backbone", "test-flat")) == ("metafe-flat", "3.1")


def test_an_installed_plugin_works_in_a_fresh_process(install, run):
    install("metafe-flat", BACKBONE.format(cls="Flat", name="test-flat"))
    code = """
        import json, warnings
        import numpy as np
        warnings.simplefilter("error")
        import metafe
        y = np.repeat(np.arange(4), 15)
        X = np.random.default_rng(0).normal(size=(60, 3)) + 10 * y[:, None]
        fitted = metafe.MetaFeatureExtractor("test-flat", max_steps=1, augment=None, random_state=0).fit(X, y)
        print(json.dumps(fitted.transform(X).shape))
    """
    assert run(code) == [60, 3]


def test_importing_metafe_loads_no_entry_point(install, run):
    install("metafe-flat", BACKBONE.format(cls="Flat", name="test-flat"))
    code = """
        import json, sys
        import metafe
        metafe.MetaFeatureExtractor()
        before = "metafe_flat" in sys.modules
        from metafe.plugins import registry
        registry()
        print(json.dumps([before, "metafe_flat" in sys.modules]))
    """
    assert run(code) == [False, True]


def test_two_distributions_of_one_name_are_both_named(install):
    install("metafe-first", BACKBONE.format(cls="Flat", name="test-flat"))
    install("metafe-second", BACKBONE.format(cls="Other", name="test-flat"))
    with pytest.raises(DuplicatePluginError) as refusal:
        Registry()
    assert "'metafe-first' (metafe_first.Flat)" in str(refusal.value)
    assert "'metafe-second' (metafe_second.Other)" in str(refusal.value)
    assert Registry(allowed=["metafe-second"]).get("backbone", "test-flat").__name__ == "Other"


def test_nobody_can_shadow_a_built_in(install):
    install("metafe-flat", BACKBONE.format(cls="MLP", name="mlp"))
    with pytest.raises(DuplicatePluginError, match=r"got 'mlp' from both 'metafe' .* and 'metafe-flat'"):
        Registry()


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_distribution_is_left_out_with_a_warning(install, fault):
    name = "broken-" + fault.replace(" ", "-")
    source, error = BROKEN[fault]
    install("a-sound-one", BACKBONE.format(cls="Before", name="test-before"))
    install(name, source, "0.3")
    install("z-sound-one", BACKBONE.format(cls="After", name="test-after"))
    with pytest.warns(PluginLoadWarning) as caught:
        plugins = Registry()
    (warning,) = caught
    assert f"Plugin distribution {name!r} must load without error; got {error}" in str(warning.message)
    (failure,) = [p for p in plugins.listing() if p.error]
    assert (failure.distribution, failure.version, failure.kind, failure.name) == (name, "0.3", "", name)
    assert failure.error.startswith(error)
    assert {"test-before", "test-after", "mlp"} <= set(plugins.names("backbone"))
    assert "mlp" in str(plugins.manager.hook.metafe_register_backbones()).lower()
    assert not any(name.replace("-", "_") in label for label, _ in plugins.manager.list_name_plugin())


def test_a_name_that_failed_to_load_says_so(install):
    install("metafe-flat", "raise OSError('disk on fire')")
    with pytest.warns(PluginLoadWarning):
        plugins = Registry()
    with pytest.raises(UnknownPluginError, match="metafe-flat failed to load: OSError: disk on fire"):
        plugins.get("backbone", "test-flat")


@pytest.mark.parametrize(
    ("limit", "found"),
    [("", []), ("metafe-first", ["test-first"]), (" Metafe-First , metafe-second ", ["test-first", "test-second"])],
)
def test_an_environment_variable_limits_what_loads(install, run, limit, found):
    install("metafe-first", BACKBONE.format(cls="First", name="test-first"))
    install("metafe-second", BACKBONE.format(cls="Second", name="test-second"))
    install("metafe-third", "raise RuntimeError('must not be imported')")
    code = """
        import json, warnings
        warnings.simplefilter("error")
        from metafe.plugins import registry
        print(json.dumps([n for n in registry().names("backbone") if n.startswith("test-")]))
    """
    assert run(code, METAFE_PLUGINS=limit) == found


def test_a_value_after_the_name_is_that_of_its_parameter(shared, small, blobs, tmp_path):
    class Copies(Doubled):
        name = "test-copies"
        named_parameter = "copies"

    Copies = metafe.register(Copies)
    assert isinstance(resolve("backbone", "test-copies:3"), Copies)
    assert resolve("backbone", "test-copies:a:b").copies == "a:b"
    assert resolve("backbone", "test-copies").copies == Copies().copies
    given = {"backbone": "test-copies:3"}
    assert effective_parameters(given) == effective_parameters({"backbone": Copies("3")})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlp:64", "Backbone 'mlp' must be followed by no value after a colon; got 'mlp:64'. Pass an object"),
        ("conv:64", "got 'conv'. Did you mean 'conv4'"),
    ],
)
def test_a_value_after_a_name_that_takes_none_is_refused(name, message):
    with pytest.raises(UnknownPluginError, match=message):
        resolve("backbone", name)


def test_an_unknown_name_gets_the_close_match():
    with pytest.raises(UnknownPluginError, match=r"got 'conv'. Did you mean 'conv4'") as refusal:
        resolve("backbone", "conv")
    assert "Available: " in str(refusal.value)
    assert "metafe.register(cls)" in str(refusal.value)


def test_a_name_of_another_kind_is_unknown():
    with pytest.raises(UnknownPluginError, match=r"^Algorithm must be the name .* got 'mlp'"):
        resolve("algorithm", "mlp")


def test_an_object_of_another_kind_is_refused():
    with pytest.raises(
        UnknownPluginError, match=r"^Task source must be a name or an object of a subclass of TaskSource; got Doubled"
    ):
        resolve("task source", Doubled())


def test_built_ins_are_plugins_of_metafe():
    built_in = [p for p in registry().listing() if p.distribution == "metafe"]
    assert {p.kind for p in built_in} == {"backbone", "algorithm", "task source", "augmentation"}
    assert {p.version for p in built_in} == {version("metafe")}
    assert built_in == sorted(built_in, key=lambda p: (p.kind, p.name))


def test_hooks_and_their_arguments_are_as_documented():
    specified = {
        name: list(inspect.signature(hook).parameters)
        for name, hook in vars(hookspecs).items()
        if name.startswith("metafe_")
    }
    assert specified == HOOKS


class Tracker:
    """Notes each life-cycle call, and what it got."""

    def __init__(self):
        self.calls = []

    @metafe.hookimpl
    def metafe_fit_started(self, extractor, settings):
        self.calls.append(("started", hasattr(extractor, "model_"), settings["max_steps"]))

    @metafe.hookimpl
    def metafe_step_finished(self, extractor, step, metrics):
        self.calls.append(("step", step, metrics["step"], {"loss", "score"} <= metrics.keys()))

    @metafe.hookimpl
    def metafe_fit_finished(self, extractor):
        self.calls.append(("finished", len(extractor.history_), extractor.transform(np.zeros((1, 6))).shape))


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
def test_life_cycle_hooks_are_called_in_order(shared, small, blobs):
    tracker = Tracker()
    shared.manager.register(tracker, name="test-tracker")
    fitted = small(max_steps=3).fit(*blobs)
    started, *steps, finished = tracker.calls
    assert started == ("started", False, 3)
    assert steps == [("step", step, step, True) for step in range(4)]
    assert finished == ("finished", 4, (1, fitted.n_features_out_))


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
def test_a_tracker_that_fails_is_named_and_costs_no_fit(shared, small, blobs):
    class Failing:
        @metafe.hookimpl
        def metafe_step_finished(self, step):
            raise OSError("no space left")

    tracker = Tracker()
    shared.manager.register(Failing(), name="full-disk")
    shared.manager.register(tracker, name="test-tracker")
    with pytest.warns(MetafeWarning, match="'full-disk' must take metafe_step_finished.*OSError: no space left"):
        fitted = small(max_steps=1).fit(*blobs)
    assert [call[0] for call in tracker.calls] == ["started", "step", "step", "finished"]
    assert fitted.transform(blobs[0]).shape == (len(blobs[0]), fitted.n_features_out_)


def test_a_tracker_is_called_from_an_installed_distribution(install, run):
    install(
        "metafe-tracker",
        """
        from metafe.contracts import hookimpl
        calls = []

        @hookimpl
        def metafe_fit_started(settings):
            calls.append("started")

        @hookimpl
        def metafe_step_finished(step):
            calls.append(step)

        @hookimpl
        def metafe_fit_finished():
            calls.append("finished")
        """,
    )
    code = """
        import json
        import numpy as np
        import metafe, metafe_tracker
        y = np.repeat(np.arange(5), 6)
        X = np.random.default_rng(0).normal(size=(30, 3)) + 10 * y[:, None]
        settings = {"max_steps": 2, "augment": None, "random_state": 0, "validation_fraction": 0.0}
        metafe.MetaFeatureExtractor("mlp", **settings).fit(X, y)
        print(json.dumps(metafe_tracker.calls))
    """
    assert run(code) == ["started", 0, 1, 2, "finished"]
