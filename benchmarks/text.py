"""Customer questions of intents never seen: features that metafe learns on frozen sentence embeddings, on Banking77.

    python benchmarks/text.py FOLDER [--seeds 3] [--episodes 600]

FOLDER holds train.csv and test.csv of Banking77, with the columns text and category. In each of as many splits as there
are seeds, features are learned from the questions of some intents, and judged by the nearest class mean on episodes of the
others: 27 source and 50 novel intents where episodes have 50 ways, 52 and 25 otherwise. Every arm is judged on the same
episodes. The baselines take the embeddings as they are, with logistic regression and with the nearest class mean. Needs
metafe-transformers; embeddings are computed once.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from metafe_transformers import TextEncoder
from sklearn.linear_model import LogisticRegression

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.contracts import Seeds
from metafe.training.probe import compare

Table = tuple[np.ndarray, np.ndarray]
N_NOVEL = {5: 25, 20: 25, 50: 50}
BASELINES: dict[str, Any] = {
    "embedding, logistic regression": LogisticRegression(max_iter=1000),
    "embedding, nearest mean": "centroid",
}
ARMS: dict[str, Callable[[int], MetaFeatureExtractor]] = {
    # Of embeddings as plain rows; where metafe embeds the texts itself, it takes the adapter.
    "auto": lambda seed: MetaFeatureExtractor(random_state=seed),
    "adapter": lambda seed: MetaFeatureExtractor("adapter", random_state=seed),
    "plda": lambda seed: MetaFeatureExtractor("plda", random_state=seed),
    "mlp, protonet": lambda seed: MetaFeatureExtractor("mlp", "protonet", random_state=seed),
}


def read_questions(folder: Path) -> tuple[list[str], np.ndarray]:
    """Return all questions and their intents."""
    rows: list[dict[str, str]] = []
    for name in ("train.csv", "test.csv"):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return [row["text"] for row in rows], np.array([row["category"] for row in rows])


def split(embeddings: np.ndarray, intents: np.ndarray, n_novel: int, seed: int) -> tuple[Table, Table]:
    """Return source and novel intents, drawn at random."""
    novel = np.isin(intents, np.random.default_rng(seed).permutation(np.unique(intents))[:n_novel])
    return (embeddings[~novel], intents[~novel]), (embeddings[novel], intents[novel])


def judged(
    fitted: dict[str, Any], novel: Table, n_way: int, n_shot: int, n_episodes: int, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each arm and baseline with its accuracy in each episode."""
    settings = {"n_way": n_way, "n_shot": n_shot, "n_episodes": n_episodes, "random_state": seed}
    for name, head in BASELINES.items():
        yield name, few_shot_score(None, *novel, head=head, **settings).scores
    for name, extractor in fitted.items():
        yield name, few_shot_score(extractor, *novel, **settings).scores


def main() -> None:
    """Fit and judge on every split, and print accuracies and gains with their intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=600, help="of each split, way and shot")
    parser.add_argument("--ways", type=int, nargs="+", choices=N_NOVEL, default=list(N_NOVEL))
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    texts, intents = read_questions(options.folder)
    embeddings = TextEncoder().fit(texts, Seeds(0)).encode(texts)
    print(
        f"{len(texts)} questions, {len(set(intents))} intents, embeddings of {embeddings.shape[1]} values", flush=True
    )
    scores: dict[tuple[int, int], dict[str, list[np.ndarray]]] = {}
    for n_novel in sorted({N_NOVEL[way] for way in options.ways}):
        for seed in range(options.seeds):
            source, novel = split(embeddings, intents, n_novel, seed)
            fitted = {name: _fitted(name, source, seed) for name in options.arms}
            for way in (way for way in options.ways if N_NOVEL[way] == n_novel):
                for shot in options.shots:
                    found = scores.setdefault((way, shot), {})
                    for name, of_episodes in judged(fitted, novel, way, shot, options.episodes, seed):
                        found.setdefault(name, []).append(of_episodes)
    for (way, shot), found in sorted(scores.items()):
        print_scores(way, shot, found)


def _fitted(name: str, source: Table, seed: int) -> MetaFeatureExtractor:
    began = time.perf_counter()
    extractor = ARMS[name](seed).fit(*source)
    decided = extractor.decisions_.get("backbone", "")
    n_source = len(np.unique(source[1]))
    print(
        f"split {seed}, {n_source} source intents, {name}: {time.perf_counter() - began:.0f} s. {decided}", flush=True
    )
    return extractor


def print_scores(way: int, shot: int, found: dict[str, list[np.ndarray]]) -> None:
    """Print the accuracy of each arm over all splits, and the gain over the first baseline in the same episodes."""
    baseline = next(iter(BASELINES))
    print(f"\n{way}-way {shot}-shot, {len(found[baseline])} splits")
    for name, of_splits in found.items():
        compared = compare(np.concatenate(of_splits), np.concatenate(found[baseline]))
        of_each = ", ".join(
            f"{100 * (a.mean() - b.mean()):+.1f}" for a, b in zip(of_splits, found[baseline], strict=True)
        )
        print(
            f"  {name:<32}{100 * compared.score:5.1f}   gain {100 * compared.gain:+5.1f} "
            f"({100 * compared.low:+.1f} to {100 * compared.high:+.1f}), by split {of_each}"
        )


if __name__ == "__main__":
    main()
