"""The estimator: one `fit` that finds network, algorithm, tasks and settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import check_scoring
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from metafe.contracts import InvalidParameterError, SearchError

if TYPE_CHECKING:
    from metafe.extractor import MetaFeatureExtractor

FEW_SHOT = "few_shot"
OBJECTIVES = ("score", "latency", "n_parameters", "n_features")


def _has_final_estimator(search: MetaFeatureSearchCV) -> bool:
    return search.final_estimator is not None


def _final_estimator_has(method: str) -> Callable[[MetaFeatureSearchCV], bool]:
    return lambda search: hasattr(search.final_estimator, method)


class MetaFeatureSearchCV(TransformerMixin, BaseEstimator):
    """Search for the backbone, meta-algorithm, task source and settings whose features serve best, in one call.

    Every plugin that accepts the data is searched over the ranges that it declares. What a user would have done by hand
    comes first: the standardised rows, PCA, LDA, NCA and a plainly supervised network. The best trials and the best of
    these are judged again on fresh episodes, and one of these wins unless something else is surely better.

    Parameters
    ----------
    extractor : MetaFeatureExtractor or None, default=None
        What is searched around: its parameters that are not ``"auto"`` stay as they are. None is one with its defaults.
    backbones, algorithms, tasks : None, str, plugin, sequence of them, or mapping, default=None
        What is searched. None is every plugin that accepts the data; names and objects narrow it, and an object keeps
        the parameters that you have set; a mapping from names to ``{parameter: range}`` overrides ranges too, and a
        value in place of a range fixes the parameter.
    n_trials : int, default=50
        Finished trials of the study, the baselines and those of earlier calls included.
    timeout : float or None, default=None
        Seconds for everything, refit included.
    scoring : str, callable or None, default="few_shot"
        ``"few_shot"`` is the accuracy of the nearest class mean from ``n_shot`` labelled rows a class, on classes that training
        has not seen (or R² of ridge regression); anything else is a scorer of scikit-learn, for which
        ``final_estimator`` is fitted on the features of each fold, None its own ``score``.
    n_shot : int, default=1
        Labelled rows of a class that ``scoring="few_shot"`` judges with: as many as there will be of each new class.
        Episodes with a class that has too few rows get fewer; those of regression have a number of their own.
    cv : "auto", int, splitter of scikit-learn or iterable, default="auto"
        How rows are held out. ``"auto"`` splits by group where groups are given, by class where there are at least four,
        else by row; never by class for the score of a final estimator.
    final_estimator : estimator or None, default=None
        Fitted on the features at the end, for `predict`.
    objectives : sequence of {"score", "latency", "n_parameters", "n_features"}, default=("score",)
        What is optimised. Several give a Pareto front, and no pruning, since Optuna does not prune then; what is refitted
        is the winner by the score.
    sampler : {"auto", "random"} or optuna sampler, default="auto"
        ``"auto"`` is TPE.
    pruner : {"auto", "none"}, None or optuna pruner, default="auto"
        ``"auto"`` is Hyperband over the validations of a training that holds out at least five classes, or something else than
        classes. With each but ``"none"`` or None, a trial that is surely worse than the best after a fold is pruned too.
    storage : None, str, Path or optuna storage, default=None
        None keeps the study in memory. ``"sqlite:///study.db"``, ``"postgresql://..."``, the path of a journal file or
        ``"grpc://host:port"`` keep it, so that a second call with the same data goes on where the first stopped. For a URL,
        heartbeats are switched on, which tell of dead workers; for an `optuna.storages.RDBStorage` you have to do so.
    study_name : str or None, default=None
        None derives it from data and space.
    n_jobs : int or None, default=None
        Worker processes; None is 1.
    refit : bool, default=True
        Whether the winner is fitted on all rows.
    warm_start_from : None, optuna study, fitted MetaFeatureSearchCV, storage or sequence of them, default=None
        Other studies, those of a whole storage where one is given as in ``storage``, whose best settings are tried early: first
        those of the data that are most alike by their number of rows, columns and classes and how easy they are
        (`metafe.search.meta_features`). Where the study goes on, those that it has not tried come next.
    random_state : int, RandomState or None, default=None
        With an integer and one process, trials and winner are the same every time.
    verbose : int, default=0
        1 says what is found, 2 lets Optuna say what it does too.

    Attributes
    ----------
    best_estimator_ : MetaFeatureExtractor
        The winner, fitted on all rows.
    best_params_ : dict
        Its parameters: ``MetaFeatureExtractor().set_params(**best_params_)`` makes it again. Of a network, which is trained
        on all rows in the end, ``validation_fraction`` is 0; ``max_steps`` is the number that did best in the folds, or, where
        classes are so few that trainings in the folds hold none out, what the trial has chosen. With one objective, the
        few-shot score, ``n_networks`` is four, or as many of them as there is time for. ``concat_input`` is among them where the
        rows stand beside what was learned, since classes are too few to trust that alone.
    best_score_ : float
        Its mean score over the folds, without the rows beside it.
    best_index_ : int
        Its row in ``cv_results_``.
    cv_results_ : dict of str to ndarray or list
        A row for each finished trial: ``params``, ``mean_test_score``, ``std_test_score``, ``rank_test_score``,
        ``split0_test_score`` and so on, ``mean_fit_time``, ``state``, ``baseline`` and ``trial``.
    finalists_ : tuple of Finalist
        What was judged again on fresh episodes, best first.
    verdict_ : str
        What won, and by how much.
    splits_ : str
        How rows were held out.
    n_splits_ : int
        Number of folds.
    study_ : optuna.study.Study
        The study.
    final_estimator_ : estimator
        Fitted on the features of all rows.
    n_features_in_ : int
        Size of the second dimension of ``X``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where ``X`` has them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metafe import MetaFeatureExtractor, MetaFeatureSearchCV
    >>> X, y = load_digits(return_X_y=True)
    >>> brief = MetaFeatureExtractor("mlp", "protonet", max_steps=20)
    >>> search = MetaFeatureSearchCV(brief, n_trials=8, random_state=0).fit(X[y < 8], y[y < 8])
    >>> len(search.transform(X[y >= 8])), search.splits_, search.cv_results_["baseline"][0]
    (354, '4 folds by class', 'standardised rows')
    """

    def __init__(
        self,
        extractor: MetaFeatureExtractor | None = None,
        *,
        backbones: Any = None,
        algorithms: Any = None,
        tasks: Any = None,
        n_trials: int = 50,
        timeout: float | None = None,
        scoring: Any = FEW_SHOT,
        n_shot: int = 1,
        cv: Any = "auto",
        final_estimator: Any = None,
        objectives: Sequence[str] = ("score",),
        sampler: Any = "auto",
        pruner: Any = "auto",
        storage: Any = None,
        study_name: str | None = None,
        n_jobs: int | None = None,
        refit: bool = True,
        warm_start_from: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.extractor = extractor
        self.backbones = backbones
        self.algorithms = algorithms
        self.tasks = tasks
        self.n_trials = n_trials
        self.timeout = timeout
        self.scoring = scoring
        self.n_shot = n_shot
        self.cv = cv
        self.final_estimator = final_estimator
        self.objectives = objectives
        self.sampler = sampler
        self.pruner = pruner
        self.storage = storage
        self.study_name = study_name
        self.n_jobs = n_jobs
        self.refit = refit
        self.warm_start_from = warm_start_from
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> MetaFeatureSearchCV:
        """Search, judge the best again and fit the winner on all rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows as `MetaFeatureExtractor.fit` takes them.
        y : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Classes, or continuous targets. Without ``y``, features are judged by clusters of held-out rows.
        groups : array-like of shape (n_rows,), default=None
            Each group is a task of its own.

        Returns
        -------
        MetaFeatureSearchCV
            The estimator itself. A fit that fails leaves it as it was.

        Raises
        ------
        InvalidInputError
            Data that cannot be searched with.
        InvalidParameterError
            A parameter that cannot work, alone or with the data; nothing left to search.
        UnknownPluginError
            A plugin name that nothing has registered.
        SearchError
            The storage cannot be reached or holds another search; every trial failed.
        """
        from metafe.extractor import unchanged_by_errors

        with unchanged_by_errors(self):
            self._fit(X, y, groups)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of the winner.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows like those given to `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out) float32
        """
        return self._refitted().transform(X)

    @available_if(_has_final_estimator)  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> np.ndarray:
        """Return what the final estimator predicts from the features.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows like those given to `fit`.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
        """
        features = self._refitted().transform(X)
        return self.final_estimator_.predict(features)

    @available_if(_final_estimator_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class that the final estimator finds from the features.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows like those given to `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``.
        """
        features = self._refitted().transform(X)
        return self.final_estimator_.predict_proba(features)

    @available_if(_final_estimator_has("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the confidence in each class that the final estimator finds from the features.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows like those given to `fit`.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_classes)
            In the order of ``classes_``.
        """
        features = self._refitted().transform(X)
        return self.final_estimator_.decision_function(features)

    @property
    def classes_(self) -> np.ndarray:
        """Classes that the final estimator tells apart, ``(n_classes,)``."""
        if "final_estimator_" not in vars(self):
            raise AttributeError("MetaFeatureSearchCV has classes_ once it is fitted with a final_estimator.")
        return self.final_estimator_.classes_

    @available_if(_has_final_estimator)  # type: ignore[untyped-decorator]
    def score(self, X: Any, y: Any) -> float:
        """Return the score of the final estimator: by ``scoring`` where that is a scorer, else its own.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows like those given to `fit`.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Their labels.

        Returns
        -------
        float
        """
        features = self._refitted().transform(X)
        return float(self._scorer(self.final_estimator_)(self.final_estimator_, features, y))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : None
            Ignored: the names do not depend on them.

        Returns
        -------
        ndarray of str
        """
        return self._refitted().get_feature_names_out()

    def trials_dataframe(self) -> Any:
        """Return a table of all trials of the study, as `optuna.study.Study.trials_dataframe` does; needs pandas."""
        check_is_fitted(self)
        return self.study_.trials_dataframe()

    def write_report(self, folder: str | Path) -> Path:
        """Write what was found as a page, ``index.html``, that needs no other file, and as PNG pictures.

        Parameters
        ----------
        folder : str or Path
            Made where it does not exist; files of an earlier report are replaced.

        Returns
        -------
        Path
            The page.
        """
        from metafe.search.report import write_report

        check_is_fitted(self)
        return write_report(self, folder)

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether `fit` has been called."""
        return hasattr(self, "study_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what can be fitted."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.three_d_array = True
        tags.target_tags.required = False
        if hasattr(self.final_estimator, "fit"):
            final = get_tags(self.final_estimator)
            tags.estimator_type = final.estimator_type
            tags.classifier_tags, tags.regressor_tags = final.classifier_tags, final.regressor_tags
        return tags

    def __str__(self) -> str:
        return f"{self!r}\n{self.verdict_}" if hasattr(self, "verdict_") else repr(self)

    def _html_repr(self) -> str:
        verdict = f"<p>{escape(self.verdict_)}</p>" if hasattr(self, "verdict_") else ""
        return verdict + super()._html_repr()

    def _fit(self, X: Any, y: Any, groups: Any) -> None:
        # Loading the libraries counts, too.
        began = time.time()
        from metafe.search.checking import check_parameters
        from metafe.search.procedure import search

        check_parameters(self)
        search(self, X, y, groups, None if self.timeout is None else began + self.timeout)

    @property
    def _is_downstream(self) -> bool:
        return not (isinstance(self.scoring, str) and self.scoring == FEW_SHOT)

    @property
    def _n_features_out(self) -> int:
        return self._refitted().n_features_out_

    def _scorer(self, estimator: Any) -> Any:
        try:
            return check_scoring(estimator, self.scoring if self._is_downstream else None)
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(
                f"scoring={self.scoring!r} must be able to score {estimator!r}; got: {error} Choose another scorer."
            ) from error

    def _refitted(self) -> MetaFeatureExtractor:
        check_is_fitted(self)
        if not hasattr(self, "best_estimator_"):
            raise SearchError(
                "There is no winner to use, since the search was fitted with refit=False. Fit with refit=True."
            )
        return self.best_estimator_
