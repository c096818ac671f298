"""What an extractor consists of, and how it is put together again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from metafe.contracts import Backbone, InvalidParameterError, Learner, MetaAlgorithm, Problem, SavedFormatError
from metafe.training.batch_norm import use_batch_statistics
from metafe.training.feature_model import FeatureModel
from metafe.training.input_beside import InputBeside
from metafe.training.normalisation import Normaliser
from metafe.training.randomness import use_generator
from metafe.training.settings import resolve_device

if TYPE_CHECKING:
    from metafe.extractor import MetaFeatureExtractor


@dataclass(frozen=True)
class Contents:
    """All that is saved of an extractor, as values that can be encoded.

    Parameters
    ----------
    model : dict
        Parts of its `FeatureModel`, the learner as a state dictionary.
    attributes : dict
        Fitted attributes but the model.
    parameters : dict
        Constructor parameters.
    output : dict
        What ``set_output`` chose.
    routing : dict of str to dict
        Method to its metadata requests, where the user has set any.
    """

    model: dict[str, Any]
    attributes: dict[str, Any]
    parameters: dict[str, Any]
    output: dict[str, Any]
    routing: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, extractor: MetaFeatureExtractor) -> Contents:
        """Take an extractor apart.

        Raises
        ------
        SavedFormatError
            An object of another class, which loading could not know.
        """
        from metafe.extractor import MetaFeatureExtractor

        if type(extractor) is not MetaFeatureExtractor:
            raise SavedFormatError(
                f"What is saved must be a MetaFeatureExtractor itself; got {type(extractor).__name__}, which loading "
                "would have to import from a path in the file. Save a MetaFeatureExtractor, or pickle this."
            )
        return cls(
            model=_model_parts(extractor.model_),
            attributes={k: v for k, v in vars(extractor).items() if _is_fitted_attribute(k) and k != "model_"},
            parameters=extractor.get_params(deep=False),
            output=dict(getattr(extractor, "_sklearn_output_config", {})),
            routing=_requests(extractor) if "_metadata_request" in vars(extractor) else {},
        )

    def build(self) -> tuple[MetaFeatureExtractor, Any]:
        """Put the extractor together.

        Returns
        -------
        extractor : MetaFeatureExtractor
        lost_device : object
            Its ``device`` parameter, if this machine does not have it and ``"auto"`` has taken its place; else None.
        """
        from metafe.extractor import MetaFeatureExtractor

        if not all(_is_fitted_attribute(name) for name in self.attributes):
            raise ValueError(f"attributes {sorted(self.attributes)} are not all fitted ones")
        extractor = MetaFeatureExtractor(**self.parameters)
        for name, value in self.attributes.items():
            setattr(extractor, name, value)
        extractor.model_ = _model(**self.model)
        if extractor.model_.n_features != extractor.n_features_out_:
            raise ValueError(f"the learner has {extractor.model_.n_features} features, not {extractor.n_features_out_}")
        if not {*self.output.values()} <= {"default", "pandas", "polars"}:
            raise ValueError(f"the output {self.output} is not known")
        extractor.set_output(**self.output)
        if self.routing:
            _set_requests(extractor, self.routing)
        lost_device = None if _is_present(extractor.device) else extractor.device
        return extractor if lost_device is None else extractor.set_params(device="auto"), lost_device


def _is_fitted_attribute(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _model_parts(model: FeatureModel) -> dict[str, Any]:
    return {
        "backbone": model.backbone,
        "algorithm": model.algorithm,
        "problem": dataclasses.asdict(model.learner.problem),
        "learners": [dict(learner.state_dict()) for learner in model.learners],
        "normalisers": [dict(vars(normaliser)) for normaliser in model.normalisers],
        "input_shape": model.input_shape,
        "states": [dict(state) for state in model.states],
        "n_way": model.n_way,
        "beside": None if model.beside is None else vars(model.beside) | {"normaliser": vars(model.beside.normaliser)},
    }


def _model(
    *,
    backbone: Backbone,
    algorithm: MetaAlgorithm,
    problem: dict[str, Any],
    learners: list[dict[str, Any]],
    input_shape: tuple[int, ...],
    states: list[dict[str, Tensor]],
    n_way: int,
    beside: dict[str, Any] | None = None,
    normalisers: list[dict[str, Any]] | None = None,
    normaliser: dict[str, Any] | None = None,
) -> FeatureModel:
    # Earlier versions have one for all learners.
    of_each = normalisers or [normaliser or {}] * len(learners)
    statistics = tuple(Normaliser(**values) for values in of_each)
    built = tuple(_built_learner(backbone, algorithm, Problem(**problem), own, input_shape) for own in statistics)
    for learner, weights in zip(built, learners, strict=True):
        _load_weights(learner, weights)
    rows = None if beside is None else InputBeside(Normaliser(**beside["normaliser"]), beside["weight"])
    return FeatureModel(backbone, algorithm, built, statistics, input_shape, tuple(states), n_way, rows)


def _built_learner(
    backbone: Backbone, algorithm: MetaAlgorithm, problem: Problem, normaliser: Normaliser, input_shape: tuple[int, ...]
) -> Learner:
    """Build the learner as `fit` does, on the CPU; the weights it starts with are replaced."""
    problem = dataclasses.replace(problem, input_shape=normaliser.shape_of(input_shape))
    with torch.device("cpu"), use_generator(torch.Generator("cpu").manual_seed(0)), torch.no_grad():
        module = backbone.build(problem.input_shape)
        features = module.eval()(normaliser(torch.zeros(2, *input_shape)))
    with torch.device("cpu"), use_generator(torch.Generator("cpu").manual_seed(0)):
        learner = algorithm.build(module, int(features.shape[1]), problem)
    use_batch_statistics(learner)
    return learner.eval()


def _load_weights(learner: Learner, saved: dict[str, Any]) -> None:
    expected = learner.state_dict()
    if expected.keys() != saved.keys():
        differing = sorted(expected.keys() ^ saved.keys())
        raise ValueError(f"the network that is built has other weights than the saved one: {', '.join(differing)}")
    for name, value in saved.items():
        if _type_and_shape(value) != _type_and_shape(expected[name]):
            built = _type_and_shape(expected[name])
            raise ValueError(f"{name} is {built} in the network that is built, {_type_and_shape(value)} in the file")
    expected.update(saved)
    learner.load_state_dict(expected, strict=True)
    _keep_layout(learner, saved)


def _type_and_shape(value: Any) -> Any:
    return (value.dtype, tuple(value.shape)) if isinstance(value, Tensor) else type(value)


def _keep_layout(learner: nn.Module, saved: dict[str, Any]) -> None:
    """Lay weights out in memory as they were, since kernels choose their path by it."""
    for name, value in learner.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and value.stride() != saved[name].stride():
            value.data = saved[name]


def _is_present(device: Any) -> bool:
    try:
        resolve_device(device)
    except InvalidParameterError:
        return False
    return True


def _requests(extractor: MetaFeatureExtractor) -> dict[str, dict[str, Any]]:
    routing = extractor.get_metadata_routing()
    return {method: dict(getattr(routing, method).requests) for method in ("fit", "transform")}


def _set_requests(extractor: MetaFeatureExtractor, requests: dict[str, dict[str, Any]]) -> None:
    routing = extractor.get_metadata_routing()
    for method in ("fit", "transform"):
        for name, alias in requests.get(method, {}).items():
            getattr(routing, method).add_request(param=name, alias=alias)
    extractor._metadata_request = routing
