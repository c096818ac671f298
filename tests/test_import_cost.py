"""What importing metafe loads; how long it takes is for the benchmarks to say."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Not rich: scikit-learn loads it itself.
HEAVY = "('torch', 'optuna', 'typer', 'matplotlib', 'polars', 'skops', 'safetensors')"


@pytest.mark.parametrize(
    "code",
    [
        "import metafe",
        "import metafe; dir(metafe); metafe.__version__",
        "from metafe import MetaFeatureExtractor, FewShotClassifier",
        "from metafe import MetaFeatureExtractor as M; from sklearn.base import clone; repr(clone(M('mlp', max_steps=3)))",
        "from metafe import FewShotClassifier as F, MetaFeatureExtractor as M; from sklearn.base import clone; clone(F(M()))",
        "import metafe; metafe.hookimpl; metafe.MetafeError",
        "from metafe import *",
    ],
)
def test_neither_torch_nor_optuna_is_loaded(code):
    check = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_loaded():
    import metafe

    assert set(metafe.__all__) <= set(dir(metafe))
    for name in metafe.__all__:
        assert getattr(metafe, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    import metafe

    with pytest.raises(AttributeError, match="no attribute 'MetaFeatureExtracter'"):
        _ = metafe.MetaFeatureExtracter
