"""What it costs to import, construct and clone the estimators, against importing scikit-learn's own.

Both are timed side by side in one run: fresh processes in turn, the median of each. The bar is a ratio of 1.15.

    python benchmarks/import_cost.py --repeats 15
"""

import argparse
import statistics
import subprocess
import sys
import time

BAR = 1.15
SKLEARN = "from sklearn.pipeline import Pipeline; from sklearn.linear_model import LogisticRegression"
METAFE = (
    "from metafe import FewShotClassifier, MetaFeatureExtractor; from sklearn.base import clone; "
    "clone(MetaFeatureExtractor('mlp', 'protonet')); clone(FewShotClassifier())"
)


def seconds(code):
    """Return how long a fresh Python takes to run ``code``."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def measure(repeats):
    """Return the times of both, one pair a repeat; a first pair fills the disk cache and is not counted."""
    pairs = [(seconds(SKLEARN), seconds(METAFE)) for _ in range(repeats + 1)][1:]
    return [list(times) for times in zip(*pairs, strict=True)]


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    sklearn, metafe = measure(repeats)
    for name, times in (("scikit-learn", sklearn), ("metafe", metafe)):
        print(f"{name:>12}: {statistics.median(times):.3f} s, fastest {min(times):.3f}, of {repeats}")
    ratio = statistics.median(metafe) / statistics.median(sklearn)
    print(f"ratio {ratio:.3f}, which is {'within' if ratio <= BAR else 'above'} the bar of {BAR}")


if __name__ == "__main__":
    main()
