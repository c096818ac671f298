"""A folder of small image files: encoding against a bare Pillow loop, a second pass from the cache, and peak memory.

    python benchmarks/image_folders.py --files 1000 10000

Images are photograph-like JPEGs of 128×128 pixels that the script makes, or those of FOLDER. The bare loop opens, converts and
resizes each file in as many threads, and keeps the pixels. Each pass runs in a process of its own; the files are read once
before, so that all passes find them in memory. Ratios are of seconds on the clock, and of seconds of processors, which other
work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 84
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
PASSES = ("bare loop", "encoder", "encoder, no cache", "from the cache")


def make_images(folder: Path, n_files: int, suffix: str) -> None:
    """Write smooth random images with some noise, which compress about as photographs do."""
    rng = np.random.default_rng(0)
    for i in range(n_files):
        coarse = Image.fromarray(rng.integers(0, 256, size=(8, 8, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((128, 128), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(smooth + rng.normal(scale=8, size=smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i:06d}{suffix}")


def bare_loop(paths: list[str], n_jobs: int) -> np.ndarray:
    """Read the files as one would by hand."""
    images = np.empty((len(paths), 3, SIDE, SIDE), np.uint8)

    def read(i: int) -> None:
        with Image.open(paths[i]) as image:
            pixels = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        images[i] = np.asarray(pixels).transpose(2, 0, 1)

    with ThreadPoolExecutor(n_jobs) as threads:
        list(threads.map(read, range(len(paths)), chunksize=16))
    return images


def run_pass(name: str, folder: str, n_files: int, n_jobs: int) -> dict[str, float]:
    """Do one pass in this process, and return its seconds and the peak of memory."""
    paths = [str(path) for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in SUFFIXES][:n_files]
    if name == "bare loop":
        before, began, began_processor = 0, time.perf_counter(), time.process_time()
        bare_loop(paths, n_jobs)
    else:
        from metafe_vision import ImageFiles

        from metafe.contracts import Seeds

        encoder = ImageFiles(side=SIDE, channels=3, n_jobs=n_jobs).fit(paths, Seeds(0))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, began_processor = time.perf_counter(), time.process_time()
        encoder.encode(paths)
    seconds, of_processor = time.perf_counter() - began, time.process_time() - began_processor
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "processor": of_processor, "megabytes": (after - before) / 1024}


def fresh_process(name: str, folder: str, n_files: int, n_jobs: int, cache: str) -> dict[str, float]:
    """Do one pass in a process of its own."""
    arguments = [sys.executable, __file__, "--pass", name, "--files", str(n_files), "--jobs", str(n_jobs), folder]
    environment = {**os.environ, "METAFE_CACHE": "off" if name == "encoder, no cache" else cache}
    # What the pass before has written is not on its way to the disk while this one is timed.
    os.sync()
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)


def compare(folder: str, n_files: int, n_jobs: int, repeats: int) -> None:
    """Print the median of each pass."""
    of_passes: dict[str, list[dict[str, float]]] = {name: [] for name in PASSES}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for name in PASSES:
                of_passes[name].append(fresh_process(name, folder, n_files, n_jobs, cache))
    measured = {
        name: {what: np.array([one[what] for one in ones]) for what in ones[0]} for name, ones in of_passes.items()
    }
    bare, first, second = (measured[name] for name in ("bare loop", "encoder", "from the cache"))
    for name, of_pass in measured.items():
        seconds, processor, memory = (np.median(of_pass[what]) for what in ("seconds", "processor", "megabytes"))
        spread = np.ptp(of_pass["seconds"]) / 2
        shares = "".join(f"{np.median(bare[what] / of_pass[what]):>9.2f}" for what in ("seconds", "processor"))
        print(
            f"{n_files:>7} {name:<19}{seconds:>7.2f} ± {spread:<5.2f}{processor:>9.2f}{shares}{memory:>8.0f}",
            flush=True,
        )
    faster, less = (np.median(first[what] / second[what]) for what in ("seconds", "processor"))
    print(
        f"{n_files:>7} from the cache: {faster:.0f} times as fast, by {less:.0f} times less processor time", flush=True
    )


def main() -> None:
    """Make the files where none are given, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=None)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--suffix", default=".jpg", help="format of the files that are made")
    parser.add_argument("--pass", dest="one_pass", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_pass:
        print(json.dumps(run_pass(options.one_pass, options.folder, options.files[0], options.jobs)))
        return
    print(f"{options.jobs} threads, {SIDE}×{SIDE} pixels; speed: that of the bare loop is 1")
    print(f"{'files':>7} {'pass':<19}{'seconds':>7}{'':8}{'of proc.':>9}{'speed':>9}{'of proc.':>9}{'MB':>8}")
    with tempfile.TemporaryDirectory() as made:
        if options.folder is None:
            make_images(Path(made), max(options.files), options.suffix)
        folder = options.folder or made
        fresh_process("bare loop", folder, max(options.files), options.jobs, made)
        for n_files in options.files:
            compare(folder, n_files, options.jobs, options.repeats)


if __name__ == "__main__":
    main()
