"""The rows themselves, and a learned correction to them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from metafe.contracts import Backbone, Categorical, Float, Problem, check_choice, check_numbers, check_sizes
from metafe.contracts.spaces import SearchSpace

# The square of the features' length: with it, the squared distances of prototypical networks neither drown in the softmax nor
# saturate it.
SQUARED_LENGTH = 10.0
# Added to squared lengths, so that rows of zeros have derivatives.
SMALLEST_SQUARE = 1e-8


class Adapter(Backbone):
    """The standardised rows, flattened, plus a correction that begins at zero.

    For rows that are good features already, such as embeddings of a pretrained network: a network that begins at random first
    has to find again what the rows know, and with few classes does not.

    Parameters
    ----------
    scaling : {"feature", "all"}, default="feature"
        ``"feature"`` gives each column its own scale; ``"all"`` keeps the proportions between columns.
    width : int or None, default=None
        Hidden units of the correction; None is a linear one.
    rate : float, default=0.1
        Of the correction, on top of the learning rate. At 1, Adam's first steps would change rows of many columns by more than
        what there is to correct.
    direction_only : bool, default=True
        Whether features keep the direction of what comes out and not its length, as for cosine similarity.

    Notes
    -----
    After the residual adapters of Rebuffi, Bilen and Vedaldi, "Learning multiple visual domains with residual adapters", 2017,
    and the feature adapters of Gao et al., "CLIP-Adapter", 2021. One factor for all features is learned with the rest, as
    the temperature is in Oreshkin, Rodríguez López and Lacoste, "TADAM", 2018.

    Examples
    --------
    >>> import torch
    >>> Adapter(direction_only=False).build((4,))(torch.ones(2, 4)).shape
    torch.Size([2, 4])
    """

    name = "adapter"

    def __init__(
        self,
        scaling: Literal["feature", "all"] = "feature",
        width: int | None = None,
        rate: float = 0.1,
        direction_only: bool = True,
    ) -> None:
        self.scaling = scaling
        self.width = width
        self.rate = rate
        self.direction_only = direction_only

    @property
    def standardise(self) -> Literal["feature", "all"]:  # type: ignore[override]
        """How rows are standardised: what ``scaling`` says."""
        return self.scaling

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the scaling, the width, the rate and whether lengths count."""
        return {
            "scaling": Categorical(["feature", "all"]),
            "width": Categorical([None, 64, 256]),
            "rate": Float(0.05, 2.0, log=True),
            "direction_only": Categorical([True, False]),
        }

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the module.

        Parameters
        ----------
        input_shape : tuple of int

        Returns
        -------
        torch.nn.Module
            Maps ``(b, *input_shape)`` to ``(b, n)``, where ``n`` is the number of values of a row.

        Raises
        ------
        InvalidParameterError
            A size or name that cannot be.
        """
        check_choice("adapter", "scaling", self.scaling, ("feature", "all"))
        if self.width is not None:
            check_sizes("adapter", width=self.width)
        check_numbers("adapter", rate=self.rate)
        return _Corrected(math.prod(input_shape), self.width, self.rate, self.direction_only)


class _Corrected(nn.Module):
    def __init__(self, n_values: int, width: int | None, rate: float, direction_only: bool) -> None:
        super().__init__()
        last = nn.Linear(n_values if width is None else width, n_values, bias=False)
        nn.init.zeros_(last.weight)
        first: list[nn.Module] = [] if width is None else [nn.Linear(n_values, width), nn.GELU()]
        self.correction = nn.Sequential(*first, last)
        self.rate = rate
        self.direction_only = direction_only
        squared_length = 1.0 if direction_only else float(n_values)
        self.log_factor = nn.Parameter(torch.tensor(0.5 * math.log(SQUARED_LENGTH / squared_length)))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1)
        corrected = rows + self.rate * self.correction(rows)
        if self.direction_only:
            corrected = corrected * (corrected.square().sum(1, keepdim=True) + SMALLEST_SQUARE).rsqrt()
        return self.log_factor.exp() * corrected
