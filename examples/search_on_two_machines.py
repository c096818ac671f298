"""Two machines that search together: each runs this same script with the same storage.

What a machine needs is the storage, the same data and the same call: the study finds its name from data and space, and
whoever comes later joins it. Without an argument, two processes of this computer stand for the machines and share the
file of a journal; elsewhere, pass the URL of a database server to each of them:

    python search_on_two_machines.py postgresql+psycopg://me@server/studies
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from sklearn.datasets import load_digits

from metafe import MetaFeatureExtractor, MetaFeatureSearchCV
from metafe.backbones import MLP


def work(storage):
    """Do a share of the trials, as one machine among others."""
    X, y = load_digits(return_X_y=True)
    small = MetaFeatureExtractor(MLP(depth=1, width=32, n_features=32), tasks="classes", augment=None, max_steps=10)
    search = MetaFeatureSearchCV(small, algorithms=["protonet", "r2d2"], n_trials=12, storage=storage)
    search.fit(X[:400], y[:400])
    shares = Counter(trial.user_attrs["worker"]["pid"] for trial in search.study_.trials if trial.state.is_finished())
    print(
        f"process {os.getpid()} ran {shares[os.getpid()]} of {shares.total()} trials; best score {search.best_score_:.3f}"
    )


def main():
    """Be one machine, or start two."""
    if len(sys.argv) > 1:
        work(sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, str(Path(folder) / "study.log")]
        machines = [subprocess.Popen(command) for _ in range(2)]  # noqa: S603 -- this very script
        failures = [machine.wait() for machine in machines]
        if any(failures):
            sys.exit("a machine failed")


if __name__ == "__main__":
    main()
