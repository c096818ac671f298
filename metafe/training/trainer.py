"""The outer loop."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from metafe.contracts import (
    Context,
    Learner,
    MetaAlgorithm,
    MetafeWarning,
    Seeds,
    TaskBatch,
    TaskData,
    TaskSource,
    TrainingInterruptedWarning,
)
from metafe.training.augmenting import Augmenter
from metafe.training.batch_norm import fix_statistics, use_batch_statistics
from metafe.training.checking import check_batches, checked_loss
from metafe.training.checkpoint import Checkpoint
from metafe.training.compiling import CompiledLoss, resolve_compile
from metafe.training.memory import reuse_freed_memory
from metafe.training.metrics import Means
from metafe.training.normalisation import Normaliser
from metafe.training.progress import show_progress
from metafe.training.randomness import use_generator
from metafe.training.rows import draw_rows
from metafe.training.settings import TrainingSettings, resolve_precision
from metafe.training.validation import Validator

# Rows whose average statistics batch normalisation keeps.
STATISTICS_ROWS = 1024
STATISTICS_BATCH = 256
# Of a training whose time is limited, what validations may take so far, counted from a quarter of that time before it began, so
# that the first ones, by which a bad training is ended, are not late.
VALIDATION_SHARE, HEAD_START = 0.2, 0.25
# Enough that calling a network costs little beside its work.
ROWS_TO_PACE = 32
# A step runs its rows forwards and backwards, which takes about three times as long as forwards alone.
PASSES_OF_A_STEP = 3
# Enough to see the shapes that are common.
STEPS_TO_SEE_SHAPES = 32


@dataclass
class Outcome:
    """How training went.

    Parameters
    ----------
    history : list of dict
        ``step``, ``loss``, ``score`` and ``seconds`` at each validation, with the metrics that the algorithm's
        ``meta_loss`` returned. Loss and metrics are means over the steps since the last validation; seconds are those of
        training, also before a checkpoint that was gone on from.
    best_step : int
        Step of the weights kept.
    interrupted : bool
        Whether the user stopped it.
    diverged : str
        A sentence where the loss was not finite; empty where it was.
    out_of_time : bool
        Whether it would have been longer with more time.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    interrupted: bool = False
    diverged: str = ""
    out_of_time: bool = False

    def best_length(self, max_steps: int) -> int:
        """Return how long a training should be by what was held out: ``max_steps`` where it did best at its end, or has none.

        Of a training that ran out of time, in which its schedule was over sooner, it is the share of it that counts.
        """
        last = self.history[-1]["step"] if self.history else 0
        if self.best_step == last:
            return max_steps
        return round(max_steps * self.best_step / last) if self.out_of_time else self.best_step


class Trainer:
    """Meta-training of one learner.

    Parameters
    ----------
    algorithm : MetaAlgorithm
    learner : Learner
        Trained in place; left in evaluation mode with the best weights and fixed statistics.
    source : TaskSource
    train : TaskData
        Encoded training rows.
    validator : Validator or None
        Without one, training runs its length and the last weights are kept.
    settings : TrainingSettings
    normaliser : Normaliser
    augmenter : Augmenter
    seeds : Seeds
    device : torch.device
    precision : {"auto", "float32", "bfloat16"}, default="float32"
        What the network computes in while training.
    compile : bool or "auto", default=False
        Whether to compile the loss and its gradient.
    checkpoint : Checkpoint or None, default=None
        Where to go on from, and to write to at each validation.
    verbose : int, default=0
    seconds : float or None, default=None
        Longest training in time, from here on where a checkpoint is gone on from. Validations and the schedule of the learning rate then go by steps or by time, whichever is
        further, and fewer where they would take much of the time.
    watcher : Validator or None, default=None
        Without a validator, what validations show a score of, which nothing is chosen by.
    on_validation : callable, default=None
        Called with the metrics of each validation, and with the ``share`` of the training that is over; training stops, and keeps
        the best weights, where it returns True.
    on_pace : callable, default=None
        Called before the first validation with the seconds that it and a step take at the least, as far as a few rows tell;
        what it raises ends the training.
    """

    def __init__(
        self,
        algorithm: MetaAlgorithm,
        learner: Learner,
        source: TaskSource,
        train: TaskData,
        validator: Validator | None,
        *,
        settings: TrainingSettings,
        normaliser: Normaliser,
        augmenter: Augmenter,
        seeds: Seeds,
        device: torch.device,
        precision: str = "float32",
        compile: bool | Literal["auto"] = False,
        checkpoint: Checkpoint | None = None,
        verbose: int = 0,
        seconds: float | None = None,
        watcher: Validator | None = None,
        on_validation: Callable[[Mapping[str, float]], bool | None] | None = None,
        on_pace: Callable[[float], None] | None = None,
    ) -> None:
        self.algorithm = algorithm
        # In training from now on: whether drop-out is active decides what can be compiled.
        self.learner = learner.to(device).train()
        self.source = source
        self.train = train
        self.validator = validator
        self.scorer = watcher if validator is None else validator
        self.settings = settings
        self.normaliser = normaliser
        self.augmenter = augmenter
        self.seeds = seeds
        self.device = device
        self.dtype = resolve_precision(precision, device, algorithm.gains_by_bfloat16(self.learner))
        self.checkpoint = checkpoint
        self.verbose = verbose
        self.seconds = seconds
        self.on_validation = on_validation or (lambda metrics: None)
        self.on_pace = on_pace
        self.outcome = Outcome()
        self._row_labels = source.row_labels(train) if algorithm.trains_on == "rows" else None
        compiles = resolve_compile(compile, algorithm, self.learner, settings.max_steps, self._n_shapes)
        self._compiled_loss = CompiledLoss(algorithm, self.learner) if compiles else None
        self._means = Means()
        self._best_score = -math.inf
        self._best_weights: dict[str, torch.Tensor] = {}
        self._without_gain = 0
        self._told_to_stop = False
        self._began = time.perf_counter()
        self._seconds_before = 0.0
        self._n_validated = 0
        self._seconds_validating = self._seconds_of_validation = 0.0

    def run(self) -> Outcome:
        """Train until the last step, until patience ends or until Ctrl-C.

        Returns
        -------
        Outcome
        """
        groups = self.algorithm.parameter_groups(self.learner)
        if not any(group["params"] for group in groups):
            self._validate(0, math.nan)
            return self._finish()
        use_batch_statistics(self.learner)
        self.learner.train()
        optimizer = self.settings.make_optimizer(groups)
        self._began = time.perf_counter()
        schedule = self.settings.make_schedule(optimizer, self._share_over)
        try:
            with reuse_freed_memory(self.device):
                self._loop(optimizer, schedule, self._resume(optimizer, schedule))
        except KeyboardInterrupt:
            self.outcome.interrupted = True
            warnings.warn(
                "Training was interrupted; the best weights so far are kept. Fit again with checkpoint= to go on.",
                TrainingInterruptedWarning,
                stacklevel=2,
            )
        return self._finish()

    def _loop(self, optimizer: torch.optim.Optimizer, schedule: Any, first_step: int) -> None:
        losses = []
        if first_step == 0:
            if self.on_pace is not None:
                self.on_pace(self._seconds_at_least())
            self._validate(0, math.nan)
            if self._told_to_stop:
                return
        with show_progress(f"{self.algorithm.name}", self.settings.max_steps, self.verbose) as report:
            for step in range(first_step, self.settings.max_steps):
                losses.append(self._step(step, optimizer))
                schedule.step()
                done = step + 1
                report(done)
                share_over = self._share_over(done)
                if not self._is_validation_due(done, share_over):
                    continue
                loss = float(torch.stack(losses).mean())
                if not math.isfinite(loss):
                    self._stop_diverged(done, loss)
                    return
                metrics = self._validate(done, loss, share_over, self._seconds_before + self._seconds_over())
                report(done, metrics)
                losses = []
                self._write_checkpoint(done, optimizer, schedule)
                if share_over >= 1 or self._told_to_stop or self._has_lost_patience:
                    self.outcome.out_of_time = share_over >= 1 and done < self.settings.max_steps
                    return

    @property
    def _has_lost_patience(self) -> bool:
        return self.settings.patience is not None and self._without_gain >= self.settings.patience

    def _seconds_at_least(self) -> float:
        """Return about how long the network alone takes for the rows of a step and a validation."""
        step = sum(len(b) * (b.support_x.shape[1] + b.query_x.shape[1]) for b in self._draw(0))
        held_out = 0 if self.scorer is None else self.scorer.n_rows
        n_rows = PASSES_OF_A_STEP * step + held_out
        # What the first call of a network prepares is not needed again.
        self._seconds_for(1)
        of_one = self._seconds_for(1)
        # One row at a time is slower than many at once, but what takes so long for one need not be asked for more.
        if of_one * ROWS_TO_PACE > (self.seconds or math.inf):
            return of_one * n_rows
        return self._seconds_for(ROWS_TO_PACE) / ROWS_TO_PACE * n_rows

    def _seconds_for(self, n_rows: int) -> float:
        """Return how long the network takes for some rows, as they are drawn from the training rows."""
        numbers = np.resize(self.train.rows, n_rows)
        rows = self.normaliser(torch.as_tensor(self.train.take(numbers)).to(self.device))
        self.learner.eval()
        began = time.perf_counter()
        with torch.no_grad():
            # Copied back, since an accelerator is done only then.
            self.learner.backbone(rows).cpu()
        return time.perf_counter() - began

    def _share_over(self, step: int) -> float:
        """Return how much of the training is over after some steps, 1 at most."""
        by_steps = step / max(1, self.settings.max_steps)
        return by_steps if self.seconds is None else min(1.0, max(by_steps, self._seconds_over() / self.seconds))

    def _seconds_over(self) -> float:
        return time.perf_counter() - self._began

    def _is_validation_due(self, done: int, share_over: float) -> bool:
        if self.seconds is None:
            return done % self.settings.validate_every == 0 or done == self.settings.max_steps
        n_due = math.floor(share_over * self.settings.n_validations)
        is_due = share_over >= 1 or (n_due > self._n_validated and self._has_time_to_validate(self.seconds))
        if is_due:
            self._n_validated = n_due
        return is_due

    def _has_time_to_validate(self, seconds: float) -> bool:
        after = self._seconds_validating + self._seconds_of_validation
        return after <= VALIDATION_SHARE * (self._seconds_over() + HEAD_START * seconds)

    def _step(self, step: int, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        """Take one step of the outer optimiser and return the loss, still on the device."""
        if not self.learner.training:
            self.learner.train()
        optimizer.zero_grad(set_to_none=True)
        generator = self.seeds.torch("step", step, device=self.device)
        context = Context(training=True, step=step, max_steps=self.settings.max_steps, generator=generator)
        batches = self._draw(step)
        n_tasks = sum(len(batch) for batch in batches)
        total = torch.zeros((), device=self.device)
        for batch in batches:
            with (
                use_generator(generator),
                torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32),
            ):
                prepared = self._prepare(batch, generator, check=step == 0)
                returned = self._meta_loss(prepared, context)
            loss, metrics = checked_loss(self.algorithm, returned, first=step == 0)
            self._means.add(metrics, len(batch))
            weighted = loss * (len(batch) / n_tasks)
            weighted.backward()  # type: ignore[no-untyped-call]
            total += weighted.detach()
        optimizer.step()
        return total

    def _meta_loss(self, batch: TaskBatch, context: Context) -> Any:
        if self._compiled_loss is not None:
            return self._compiled_loss(batch, context)
        return self.algorithm.meta_loss(self.learner, batch, context)

    def _draw(self, step: int) -> list[TaskBatch]:
        n = self.settings.meta_batch_size
        if self._row_labels is not None:
            return [draw_rows(self.train, self._row_labels, n, step, self.seeds)]
        batches = self.source.draw(self.train, n, step, self.seeds)
        return check_batches(self.source, batches, self.train.x.shape[1:]) if step == 0 else batches

    def _n_shapes(self) -> int:
        """Return how many shapes the batches of the first steps have."""
        batches = [batch for step in range(STEPS_TO_SEE_SHAPES) for batch in self._draw(step)]
        return len({(batch.n_way, batch.support_x.shape, batch.query_x.shape) for batch in batches})

    def _prepare(self, batch: TaskBatch, generator: torch.Generator, check: bool) -> TaskBatch:
        tensors = batch.to(self.device)
        standardised = dataclasses.replace(
            tensors, support_x=self.normaliser(tensors.support_x), query_x=self.normaliser(tensors.query_x)
        )
        return self.augmenter(standardised, generator, check=check)

    def _validate(self, step: int, loss: float, share_over: float = 0.0, seconds: float = 0.0) -> dict[str, float]:
        """Fix statistics, score, and keep the weights if they are the best so far."""
        began = time.perf_counter()
        metrics = {"step": step, "loss": loss, "seconds": seconds, **self._means.take()}
        if self.scorer is not None:
            self._fix_statistics()
            metrics["score"] = float(self.scorer.score(self.algorithm, self.learner, self.normaliser).mean())
        if self.validator is not None:
            self._keep_if_better(step, metrics["score"])
        elif _all_finite(self.learner):
            self._keep(step)
        self._seconds_of_validation = time.perf_counter() - began
        self._seconds_validating += self._seconds_of_validation
        self.outcome.history.append(metrics)
        self._told_to_stop = bool(self.on_validation(metrics | {"share": share_over}))
        return metrics

    def _keep_if_better(self, step: int, score: float) -> None:
        if score > self._best_score or not self._best_weights:
            self._best_score, self._without_gain = score, 0
            self._keep(step)
        else:
            self._without_gain += 1

    def _keep(self, step: int) -> None:
        self._best_weights = {k: v.detach().cpu().clone() for k, v in self.learner.state_dict().items()}
        self.outcome.best_step = step

    def _finish(self) -> Outcome:
        """Leave the learner with the best weights; where none are chosen by validation, with the last that are finite."""
        if self._best_weights and (self._chooses_weights or not _all_finite(self.learner)):
            self.learner.load_state_dict(self._best_weights)
        elif self.outcome.history:
            self.outcome.best_step = int(self.outcome.history[-1]["step"])
        if self.validator is None:
            self._fix_statistics()
        self.learner.eval()
        return self.outcome

    @property
    def _chooses_weights(self) -> bool:
        """Whether the best of all validations are kept, as also where a training that would keep its last has been cut short."""
        was_cut_short = self.outcome.interrupted or self.outcome.diverged or self._told_to_stop
        return self.validator is not None and (self.settings.patience is not None or bool(was_cut_short))

    def _fix_statistics(self) -> None:
        n_rows = min(STATISTICS_ROWS, len(self.train))
        rows = self.seeds.numpy("statistics").choice(self.train.rows, n_rows, replace=False)
        parts = np.array_split(rows, max(1, n_rows // STATISTICS_BATCH))
        device = self.device
        fix_statistics(
            self.learner.backbone, (self.normaliser(torch.as_tensor(self.train.take(p)).to(device)) for p in parts)
        )
        self.learner.eval()

    def _stop_diverged(self, step: int, loss: float) -> None:
        self.outcome.diverged = (
            f"Training needs a finite loss; got {loss} by step {step}. The best weights so far are kept. "
            "Lower learning_rate."
        )
        warnings.warn(self.outcome.diverged, MetafeWarning, stacklevel=2)

    def _write_checkpoint(self, step: int, optimizer: torch.optim.Optimizer, schedule: Any) -> None:
        if self.checkpoint is None:
            return
        self.checkpoint.write(
            {
                "step": step,
                "learner": self.learner.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "best_weights": self._best_weights,
                "best_score": self._best_score,
                "best_step": self.outcome.best_step,
                "without_gain": self._without_gain,
                "history": copy.deepcopy(self.outcome.history),
            }
        )

    def _resume(self, optimizer: torch.optim.Optimizer, schedule: Any) -> int:
        """Return the step to go on from: 0 without a checkpoint."""
        state = self.checkpoint.read() if self.checkpoint else None
        if state is None:
            return 0
        self.learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        self._best_weights, self._best_score = state["best_weights"], state["best_score"]
        self._without_gain = state["without_gain"]
        self._seconds_before = state["history"][-1]["seconds"]
        self.outcome.history, self.outcome.best_step = state["history"], state["best_step"]
        return self.settings.max_steps if self._has_lost_patience else int(state["step"])


def _all_finite(learner: Learner) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in learner.state_dict().values())
