"""The network of the introductory texts, 784-128-10 on MNIST, as a feature extractor.

One hidden layer of 128 units with ReLU, softmax and cross-entropy, plain SGD at 0.01, batches of 32, ten epochs. What
such a network learns on the way is a feature extractor: its hidden layer. The example prints the loss of each epoch,
how well the network itself classifies, and how well a linear head does on its 128 features.

    python mnist_784_128_10.py FOLDER    # the four IDX files of MNIST, gzipped or not
    python mnist_784_128_10.py --openml  # fetch MNIST through scikit-learn
    python mnist_784_128_10.py --digits  # the small digits that scikit-learn ships: 64-128-10
"""

import argparse
import gzip
import math
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import fetch_openml, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metafe import MetaFeatureExtractor
from metafe.backbones import MLP

BATCH = 32
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path):
    """Read an array in the IDX format: two zero bytes, a type, the number of dimensions, their sizes, the values."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read()
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES:
        raise ValueError(f"{path.name} must begin like an IDX file; got {content[:4]!r}. Unpack or download it again.")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").astype(int).tolist()
    dtype = np.dtype(IDX_TYPES[content[2]])
    if len(content) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{path.name} must hold {shape} values; got {len(content) - start} bytes. Download it again.")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def find_idx(folder, stem):
    """Return the path of one of the four files, under any of the names that they go by."""
    for name in (stem, stem.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
    raise FileNotFoundError(f"{folder} must hold {stem} or {stem}.gz; got neither. Pass the folder of the MNIST files.")


def read_mnist(folder):
    """Return training images and labels, then those for testing."""
    parts = []
    for part in ("train", "t10k"):
        images = read_idx(find_idx(folder, f"{part}-images-idx3-ubyte"))
        parts += [images.reshape(len(images), -1), read_idx(find_idx(folder, f"{part}-labels-idx1-ubyte"))]
    return parts


def fetch_mnist():
    """Fetch MNIST from OpenML; the last 10,000 rows are its test set."""
    X, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False)
    return X[:60000], y[:60000], X[60000:], y[60000:]


def small_digits():
    """Return the 8×8 digits, a quarter of them for testing."""
    X_train, X_test, y_train, y_test = train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
    return X_train, y_train, X_test, y_test


def train(X, y, epochs):
    """Fit the network on all rows; the features are its hidden layer."""
    return MetaFeatureExtractor(
        backbone=MLP(depth=1, width=128, n_features=None, normalisation="none"),
        algorithm="supervised",
        optimizer="sgd",
        learning_rate=0.01,
        weight_decay=0,
        schedule="constant",
        meta_batch_size=BATCH,
        max_steps=epochs * (len(X) // BATCH),
        validation_fraction=0,
        augment=None,
        random_state=0,
    ).fit(X, y)


def loss_per_epoch(extractor, steps_per_epoch):
    """Return the mean training loss of each epoch; the history has several entries an epoch."""
    losses = {}
    for entry in extractor.history_:
        if entry["step"]:
            losses.setdefault(math.ceil(entry["step"] / steps_per_epoch), []).append(entry["loss"])
    return {epoch: float(np.mean(values)) for epoch, values in losses.items()}


def network_accuracy(extractor, X, y):
    """Return the accuracy of the network's own output layer, whose largest score is its largest softmax."""
    scores = extractor.model_.predict(X, torch.device("cpu"))
    return accuracy_score(y, extractor.classes_[scores.argmax(axis=1)])


def main():
    """Read the data, train, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="folder with the four IDX files")
    parser.add_argument("--openml", action="store_true", help="fetch MNIST from OpenML")
    parser.add_argument("--digits", action="store_true", help="use the 8×8 digits of scikit-learn")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    if bool(options.folder) + options.openml + options.digits != 1:
        parser.error("pass a folder, --openml or --digits")
    data = small_digits() if options.digits else fetch_mnist() if options.openml else read_mnist(options.folder)
    X_train, y_train, X_test, y_test = data

    extractor = train(X_train, y_train, options.epochs)
    print(f"{X_train.shape[1]}-128-{len(extractor.classes_)} network, {len(X_train)} training rows")
    for epoch, loss in loss_per_epoch(extractor, len(X_train) // BATCH).items():
        print(f"epoch {epoch:2d}  loss {loss:.3f}")
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    head.fit(extractor.transform(X_train), y_train)
    for name, X, y in (("train", X_train, y_train), ("test", X_test, y_test)):
        own, linear = network_accuracy(extractor, X, y), head.score(extractor.transform(X), y)
        print(f"{name:>5} accuracy: {own:.3f} by the network, {linear:.3f} by a linear head on its features")


if __name__ == "__main__":
    main()
