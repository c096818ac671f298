"""Rows in a memory-mapped file stay on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROWS, COLUMNS = 1_000_000, 512
GIGABYTE = 2**30
# Peak anonymous memory beyond what importing takes is read by a thread, since the file's pages are shared memory and
# do not count.
SCRIPT = """
import sys, threading, time, warnings
import numpy as np
from metafe import MetaFeatureExtractor
from metafe.backbones import MLP

warnings.simplefilter("ignore")
peak, running = 0, True

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

def watch():
    global peak
    while running:
        peak = max(peak, anonymous())
        time.sleep(0.005)

X = np.load(sys.argv[1], mmap_mode="r")
y = np.arange(len(X)) * 16 // len(X)
thread = threading.Thread(target=watch)
thread.start()
extractor = MetaFeatureExtractor(
    MLP(depth=1, width=8, n_features=8), "protonet", max_steps=3, random_state=0, device="cpu", augment=None
).fit(X, y)
features = extractor.transform(X)
running = False
thread.join()
assert features.shape == (len(X), 8) and np.isfinite(features).all()
print(peak - features.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell anonymous memory apart")
def test_a_memory_map_of_four_gigabytes_fits_and_transforms_in_less_than_one(tmp_path):
    path = tmp_path / "rows.npy"
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(ROWS, COLUMNS))
    assert X.nbytes >= 4_000_000_000
    # A hole in the file reads as zeros: few pages are written, so the disk need not hold four gigabytes.
    X[:: ROWS // 64] = np.random.default_rng(0).normal(size=(64, COLUMNS))
    X.flush()
    del X
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < GIGABYTE
