"""First contact: a meta-learned feature extractor as one step of a scikit-learn pipeline.

Shows that `MetaFeatureExtractor` is a transformer like any other: it stands between a scaler and a classifier, is
judged by cross-validation, tells what it decided by itself, and has its parameters set from outside.
"""

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metafe import MetaFeatureExtractor

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)

extractor = MetaFeatureExtractor(backbone="mlp", max_steps=100, random_state=0)
pipeline = make_pipeline(StandardScaler(), extractor, LogisticRegression(max_iter=1000))

scores = cross_val_score(pipeline, X_train, y_train, cv=3)
print(f"cross-validated accuracy: {scores.mean():.3f} ± {scores.std():.3f}")

pipeline.set_params(metafeatureextractor__backbone__width=64).fit(X_train, y_train)
print(f"test accuracy, 64 units wide: {pipeline.score(X_test, y_test):.3f}")

fitted = pipeline.named_steps["metafeatureextractor"]
names = fitted.get_feature_names_out()
print(f"{fitted.n_features_in_} columns became {fitted.n_features_out_} features: {names[0]}, ..., {names[-1]}")
for parameter, reason in fitted.decisions_.items():
    print(f"{parameter} = {reason}")
