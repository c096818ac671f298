"""The outer loop's settings, device and precision, each decided by rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from metafe.contracts import InvalidParameterError, check_numbers, check_sizes
from metafe.contracts.errors import suggest

_OPTIMIZERS: dict[str, Any] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "momentum": lambda groups, **options: SGD(groups, momentum=0.9, nesterov=True, **options),
}
_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1.0 - progress,
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the outer loop, none of them ``"auto"``.

    Parameters
    ----------
    max_steps : int
        Longest training.
    meta_batch_size : int
        Tasks, or rows, of a step.
    optimizer : {"adam", "adamw", "sgd", "momentum"}
        The outer optimiser; ``"momentum"`` is SGD with Nesterov momentum of 0.9.
    learning_rate, weight_decay : float
        Of the optimiser.
    schedule : {"constant", "cosine", "linear"}
        How the learning rate falls over ``max_steps``.
    patience : int or None
        Validations without a better score after which training stops; the best weights are kept. None trains the whole length and
        keeps the last weights.
    n_validations : int, default=20
        Validations over ``max_steps``.
    n_validation_tasks : int, default=200
        Tasks of each validation; the same ones each time.
    """

    max_steps: int = 1000
    meta_batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    patience: int | None = 8
    n_validations: int = 20
    n_validation_tasks: int = 200

    def __post_init__(self) -> None:
        check_sizes("training", minimum=0, max_steps=self.max_steps)
        check_sizes("training", meta_batch_size=self.meta_batch_size)
        if self.patience is not None:
            check_sizes("training", patience=self.patience)
        check_numbers("training", learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        for name, known in (("optimizer", _OPTIMIZERS), ("schedule", _SCHEDULES)):
            value = getattr(self, name)
            if value not in known:
                raise InvalidParameterError(f"{name} must be a known name; got {value!r}. {suggest(value, known)}")

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        return max(1, -(-self.max_steps // self.n_validations))

    def make_optimizer(self, groups: Iterable[dict[str, Any]]) -> Optimizer:
        """Return the optimiser over parameter groups."""
        options = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        # One kernel for all parameters; without it a small network spends more time here than in its backward pass.
        groups = list(groups)
        return _OPTIMIZERS[self.optimizer](groups, **options, fused=_can_fuse(groups))

    def make_schedule(self, optimizer: Optimizer, share_over: Callable[[int], float]) -> LambdaLR:
        """Return the schedule of the learning rate, as a function of how much of the training is over at a step."""
        shape = _SCHEDULES[self.schedule]
        return LambdaLR(optimizer, lambda step: shape(min(1.0, share_over(step))))


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    parameters = [p for group in groups for p in group["params"]]
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes an accelerator where there is one, else the CPU.

    Raises
    ------
    InvalidParameterError
        Not a device, or one that this machine does not have.
    """
    present = ["cpu"]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator().type  # type: ignore[union-attr]
        present += [f"{kind}:{i}" for i in range(torch.accelerator.device_count())]
    if device == "auto":
        return torch.device("cpu" if len(present) == 1 else present[1])
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidParameterError(_wrong_device(device, present)) from error
    name = wanted.type if wanted.index is None else str(wanted)
    if name not in present and name not in {p.split(":")[0] for p in present}:
        raise InvalidParameterError(_wrong_device(device, present))
    return wanted


def check_precision(precision: str) -> str:
    """Return the setting.

    Raises
    ------
    InvalidParameterError
        An unknown name.
    """
    known = ["auto", *_DTYPES]
    if precision not in known:
        raise InvalidParameterError(f"precision must be a known name; got {precision!r}. {suggest(precision, known)}")
    return precision


def resolve_precision(precision: str, device: torch.device, gains: bool) -> torch.dtype:
    """Return the type in which the network runs while training.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        ``"auto"`` is bfloat16 where the machine has instructions for it and the algorithm gains by it.
    device : torch.device
    gains : bool
        What the algorithm says of the network.
    """
    if precision == "auto":
        return torch.bfloat16 if gains and _has_bfloat16(device) else torch.float32
    return _DTYPES[precision]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _wrong_device(device: object, present: list[str]) -> str:
    return f"device must be 'auto' or a device of this machine; got {device!r}. Available: {', '.join(present)}."
