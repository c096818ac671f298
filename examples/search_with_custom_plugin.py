"""A backbone of one's own, found and tuned by the search.

A plugin says in `search_space` which values of its parameters are worth trying, and the search does the rest: it tunes the
plugin on classes that are held out, and holds it against what a user would have done by hand.

The rows are recordings of sources that hum, each at frequencies of its own, begun at any moment. As they come, two
recordings of one source have little in common. Their spectrum, which is what the plugin computes, is nearly the same; how
much of it to look at is left to the search.

The winner is judged on sources that the search has not heard. With a folder as argument, a page about the search is
written there: `python search_with_custom_plugin.py report`.
"""

import sys

import numpy as np
from torch import nn

import metafe
from metafe.contracts import Backbone, Categorical, Int

N_SOURCES, N_RECORDINGS, N_VALUES = 16, 25, 64


@metafe.register
class Spectrum(Backbone):
    """How strong the lowest ``n_frequencies`` are in each row ``(n, n_values)``, or the logarithm of it."""

    name = "spectrum"
    trains = False

    def __init__(self, n_frequencies=4, log=False):
        self.n_frequencies = n_frequencies
        self.log = log

    def search_space(self, problem):
        """Name what is worth trying."""
        return {"n_frequencies": Int(2, problem.input_shape[0] // 2), "log": Categorical([False, True])}

    def encode(self, X):
        """Return ``(n, n_frequencies)``."""
        strengths = np.abs(np.fft.rfft(X))[:, 1 : self.n_frequencies + 1]
        return np.log1p(strengths) if self.log else strengths

    def build(self, input_shape):
        """Leave the strengths as they are."""
        return nn.Identity()


def record(seed=0):
    """Return recordings ``(n, n_values)`` and their sources ``(n,)``."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(N_SOURCES), N_RECORDINGS)
    frequencies = np.arange(1, 17)
    strengths = rng.exponential(size=(N_SOURCES, len(frequencies)))[y]
    phases = rng.uniform(0, 2 * np.pi, size=strengths.shape)
    times = np.arange(N_VALUES) / N_VALUES
    waves = np.sin(2 * np.pi * frequencies[:, None] * times + phases[..., None])
    return (strengths[..., None] * waves).sum(axis=1) + rng.normal(scale=2.0, size=(len(y), N_VALUES)), y


def main():
    """Search on eleven of the sources; judge on the other five."""
    X, y = record()
    novel = y >= 11

    # Named alone, the plugin has the baselines to beat; backbones=None would search whatever is installed.
    brief = metafe.MetaFeatureExtractor(max_steps=20, device="cpu")
    search = metafe.MetaFeatureSearchCV(brief, backbones=["spectrum"], n_trials=16, random_state=0)
    search.fit(X[~novel], y[~novel])

    print(f"{len(search.cv_results_['params'])} trials on {search.splits_}")
    print(search.verdict_)
    print(f"best parameters: {search.best_params_}")
    for name, transformer in {"rows": None, "the winner": search}.items():
        score = metafe.few_shot_score(transformer, X[novel], y[novel], n_way=5, random_state=0)
        print(f"{name:>10}: 5-way 1-shot accuracy {score}")
    if len(sys.argv) > 1:
        print(f"wrote {search.write_report(sys.argv[1])}")


if __name__ == "__main__":
    main()
