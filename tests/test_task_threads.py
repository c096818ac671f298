"""Tasks that run side by side on one thread each."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from metafe.algorithms import MAML
from metafe.algorithms.task_threads import map_in_threads
from metafe.backbones import Conv4
from metafe.contracts import Context, Learner, Problem, TaskBatch
from metafe.inner_loop import stands_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items(two_threads):
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item

    assert list(map_in_threads(slow_first, range(6))) == list(range(6))


def test_each_task_has_one_thread_and_the_caller_keeps_its_own(two_threads):
    seen = list(map_in_threads(lambda _: (threading.get_ident(), torch.get_num_threads()), range(4)))
    assert {n for _, n in seen} == {1}
    assert threading.get_ident() not in {thread for thread, _ in seen}
    assert torch.get_num_threads() == 2


def test_one_thread_calls_in_its_own(two_threads):
    torch.set_num_threads(1)
    assert set(map_in_threads(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}


def test_autocast_reaches_the_threads(two_threads):
    a = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        inside = list(map_in_threads(lambda _: (a @ a).dtype, range(2)))
    assert inside == [torch.bfloat16, torch.bfloat16]
    assert list(map_in_threads(lambda _: (a @ a).dtype, range(2))) == [torch.float32, torch.float32]


def test_an_error_in_a_task_is_raised(two_threads):
    def fail(item: int) -> int:
        raise ZeroDivisionError(item)

    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(fail, range(3)))


def gradient_of(learner: Learner, algorithm: MAML, batch: TaskBatch) -> tuple[torch.Tensor, torch.Tensor]:
    learner.zero_grad()
    loss, _ = algorithm.meta_loss(learner, batch, Context(training=True))
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in learner.parameters()])


@pytest.fixture
def conv4_tasks():
    rng = np.random.default_rng(0)
    rows = {name: torch.tensor(rng.normal(size=(5, 4, 1, 8, 8))) for name in ("support_x", "query_x")}
    labels = torch.tensor([[0, 0, 1, 1]] * 5)
    return TaskBatch(**rows, support_y=labels, query_y=labels, n_way=2)


def test_threads_give_the_gradient_of_one_thread(two_threads, conv4_tasks):
    algorithm = MAML(n_steps=2, inner_rate=0.1)
    backbone = Conv4(depth=2, width=4).build((1, 8, 8)).double()
    learner = algorithm.build(backbone, 16, Problem("classification", (1, 8, 8), n_classes=2, max_way=2)).double()
    side_by_side, again = (gradient_of(learner, algorithm, conv4_tasks) for _ in range(2))
    torch.set_num_threads(1)
    one_by_one = gradient_of(learner, algorithm, conv4_tasks)
    for ours, repeated, wanted in zip(side_by_side, again, one_by_one, strict=True):
        assert torch.equal(ours, repeated)
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-14)


class Counting(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Conv4().build((1, 8, 8)), True),
        (nn.Dropout(0.5).eval(), True),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), False),
        (nn.RReLU(), False),
        (nn.GRU(2, 2), False),
        (Counting(), False),
    ],
)
def test_networks_that_draw_or_are_unknown_stay_on_one_thread(layer, expected):
    assert stands_threads(layer) is expected
