"""Regression from ten points: a network that has seen many sine waves finds a new one.

Meta-trains a small network with MAML on waves of any amplitude and phase, as in "Model-Agnostic Meta-Learning for Fast
Adaptation of Deep Networks" (Finn, Abbeel and Levine, 2017), then gives it ten points of waves that it has not seen. The
same network without meta-training gets the same points and steps. With a file name as argument, the last of the waves is
drawn there: `python sinusoid.py waves.png`.
"""

import sys
from functools import partial

import numpy as np
from sklearn.frozen import FrozenEstimator

from metafe import FewShotRegressor, MetaFeatureExtractor
from metafe.algorithms import MAML
from metafe.backbones import MLP
from metafe.tasks import Sinusoid

N_POINTS, N_WAVES = 10, 100


def learn(max_steps):
    """Meta-train on sine waves; the rows given to ``fit`` say only that a row has one column."""
    network = MLP(depth=2, width=40, n_features=None, normalisation="none")
    maml = MAML(n_steps=1, inner_rate=0.01, adapt_steps=10)
    extractor = MetaFeatureExtractor(
        network,
        maml,
        Sinusoid(n_shot=N_POINTS),
        max_steps=max_steps,
        meta_batch_size=25,
        learning_rate=0.01,
        weight_decay=0.0,
        augment=None,
        validation_fraction=0,
        random_state=0,
    )
    return extractor.fit(np.zeros((20, 1)))


def sine(x, amplitude, phase):
    """Return the values of one wave."""
    return amplitude * np.sin(x - phase)


def draw(path, wave, points, fitted):
    """Draw a wave, the points of it that were given, and what each network makes of them."""
    from matplotlib.figure import Figure

    x = np.linspace(-5, 5, 200)[:, None]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(x, wave(x), color="0.6", linewidth=4, label="wave")
    for (name, regressor), style in zip(fitted.items(), ("--", "-"), strict=True):
        axes.plot(x, regressor.predict(x), style, label=name)
    axes.plot(points, wave(points), "o", color="black", label=f"{N_POINTS} points")
    axes.set(xlabel="x", ylabel="y")
    axes.legend()
    figure.savefig(path)
    print(f"drawn to {path}")


def main():
    """Learn, then fit new waves."""
    extractors = {"not meta-trained": learn(0), "meta-trained": learn(1500)}
    errors = {name: [] for name in extractors}
    rng = np.random.default_rng(0)
    grid = np.linspace(-5, 5, 200)[:, None]
    for amplitude, phase in rng.uniform([0.1, 0.0], [5.0, np.pi], size=(N_WAVES, 2)):
        wave = partial(sine, amplitude=amplitude, phase=phase)
        points = rng.uniform(-5, 5, size=(N_POINTS, 1))
        fitted = {
            name: FewShotRegressor(FrozenEstimator(extractor)).fit(points, wave(points).ravel())
            for name, extractor in extractors.items()
        }
        for name, regressor in fitted.items():
            errors[name].append(np.mean((regressor.predict(grid) - wave(grid).ravel()) ** 2))
    for name, found in errors.items():
        print(f"{name}: mean squared error {np.mean(found):.2f} over {N_WAVES} new waves")
    if len(sys.argv) > 1:
        draw(sys.argv[1], wave, points, fitted)


if __name__ == "__main__":
    main()
