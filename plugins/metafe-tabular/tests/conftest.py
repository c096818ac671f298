"""Small tables, and small in-context models with random weights in the files that pretrained ones come in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import polars as pl
import pytest

N_ROWS = 12
TABICL_SIZE = {
    "embed_dim": 16,
    "col_num_blocks": 1,
    "col_nhead": 2,
    "col_num_inds": 4,
    "row_num_blocks": 2,
    "row_nhead": 2,
    "row_num_cls": 2,
    "icl_num_blocks": 1,
    "icl_nhead": 2,
    "zero_init": False,
}
TABPFN_SIZES = {
    "tabpfn_v2": {"emsize": 24, "nlayers": 2, "nhead": 2},
    "tabpfn_v3": {
        "embed_dim": 16,
        "dist_embed_num_blocks": 1,
        "dist_embed_num_heads": 2,
        "dist_embed_num_inducing_points": 4,
        "feat_agg_num_blocks": 1,
        "feat_agg_num_heads": 2,
        "nlayers": 2,
        "icl_num_heads": 2,
    },
}


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def frame():
    """Twelve rows with numbers, gaps, categories, dates and text."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=N_ROWS).round(2)
    size[3] = np.nan
    return pd.DataFrame(
        {
            "size": size,
            "count": rng.integers(0, 9, N_ROWS),
            "fresh": rng.integers(0, 2, N_ROWS).astype(bool),
            "colour": pd.Categorical(["red", "blue", None, "green"] * 3),
            "price": ["1.5", "2", "?", "3.25"] * 3,
            "sold": ["2024-01-03", "2023-05-06", "NA", "2024-12-31"] * 3,
            "made": pd.date_range("2020-01-01 05:30", periods=N_ROWS, freq="37h"),
            "note": [None, *(f"sample {i} from shelf {i % 3}" for i in range(1, N_ROWS))],
            "source": ["lab"] * N_ROWS,
            "empty": [None] * N_ROWS,
        }
    )


@pytest.fixture
def polars_frame(frame):
    """The same table as a polars data frame."""
    columns = {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame.columns}
    return pl.DataFrame(columns).with_columns(pl.col("colour").cast(pl.Categorical))


@pytest.fixture(scope="session")
def save_tabicl(tmp_path_factory):
    """A function that writes weights of TabICL, others for another seed, and returns the file."""

    def save(seed=0, **config):
        import torch
        from tabicl._model.tabicl import TabICL

        config = {"max_classes": 5, **TABICL_SIZE, **config}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = TabICL(**config).state_dict()
        path = tmp_path_factory.mktemp("tabicl") / "tabicl.ckpt"
        torch.save({"config": config, "state_dict": state}, path)
        return str(path)

    return save


@pytest.fixture(scope="session")
def save_tabpfn(tmp_path_factory):
    """A function that writes weights of TabPFN, as a classifier's unless told, and returns the file."""

    def save(architecture="tabpfn_v2", **config):
        import torch
        from tabpfn.architectures import ARCHITECTURES
        from tabpfn.architectures.shared.bar_distribution import FullSupportBarDistribution

        module = ARCHITECTURES[architecture]
        config = {"max_num_classes": 10, "num_buckets": 0, **TABPFN_SIZES[architecture], **config}
        parsed, unknown = module.parse_config(config)
        assert not unknown
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = module.get_architecture(parsed)
            for weights in model.parameters():
                # Some begin as zeros, and would hide what comes before them.
                torch.nn.init.normal_(weights, std=0.3)
        state = model.state_dict()
        if parsed.num_buckets > 0:
            buckets = FullSupportBarDistribution(torch.linspace(-4, 4, parsed.num_buckets + 1))
            state |= {f"criterion.{name}": value for name, value in buckets.state_dict().items()}
        path = tmp_path_factory.mktemp("tabpfn") / "tabpfn.ckpt"
        torch.save({"config": dataclasses.asdict(parsed), "architecture_name": architecture, "state_dict": state}, path)
        return str(path)

    return save


@pytest.fixture(scope="session")
def tabicl_weights(save_tabicl):
    """A file of weights of TabICL for at most five classes at once."""
    return save_tabicl()


@pytest.fixture(scope="session")
def tabpfn_weights(save_tabpfn):
    """A file of weights of TabPFN for at most ten classes."""
    return save_tabpfn()
