"""A search as one step of a pipeline, judged by cross-validation.

`MetaFeatureSearchCV` is a transformer like any other of scikit-learn: it can stand between a scaler and a classifier, and
`cross_val_score` clones it, so that each fold has a search of its own. With `final_estimator` it searches for the
features on which that estimator does best, and then predicts by itself.

The search is kept very short here. With a `storage=`, a second run would go on where this one stops.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from metafe import MetaFeatureExtractor, MetaFeatureSearchCV


def short_search(**parameters):
    """Return a search over small networks, each of which trains for a moment."""
    brief = MetaFeatureExtractor(max_steps=30, device="cpu")
    return MetaFeatureSearchCV(brief, backbones=["mlp"], algorithms=["protonet"], random_state=0, **parameters)


def main():
    """Search in a pipeline, then for a classifier."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]

    pipeline = make_pipeline(MinMaxScaler(), short_search(n_trials=8), LogisticRegression(max_iter=1000))
    scores = cross_val_score(pipeline, X, y, cv=2)
    print(f"accuracy of the pipeline: {scores.mean():.3f}, fold by fold {np.round(scores, 3)}")

    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    search = short_search(n_trials=8, scoring="accuracy", final_estimator=LogisticRegression(max_iter=1000))
    search.fit(X_train, y_train)
    print(f"{len(search.cv_results_['params'])} trials, judged on {search.splits_}")
    print(f"best: {search.verdict_}")
    print(f"accuracy of predict: {search.score(X_test, y_test):.3f}")


if __name__ == "__main__":
    main()
