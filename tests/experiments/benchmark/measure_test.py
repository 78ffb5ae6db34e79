"""What the benchmark times: which cells there are, how wide, and how their times are scaled."""

import pytest

from helpers import assert_fails
from jaxinv.experiments.benchmark import measure
from jaxinv.experiments.benchmark.measure import Cell, Spec
from jaxinv.experiments.settings import Arm
from jaxinv.types import Hyper

SGD, ADAM = Arm("sgd", "sgd", Hyper()), Arm("adam", "adam", Hyper())


def make_spec(**changes) -> Spec:
  fields = {
    "arms": (SGD, ADAM),
    "engines": ("gram", "primal", "primal_loop", "torch_vmap"),
    "num_seeds": (10, 3),
    "batch_sizes": (4,),
    "widths": (0,),
    "root_seed": 0,
    "holdout": 1,
    "memory_fraction": 0.5,
    "steps": 2,
    "repeats": 1,
    "loop_seeds": 4,
    "peer_seeds": 6,
    "accuracy_seeds": 2,
    "max_steps": 3,
    "record_every": 1,
    "target_accuracy": 1.0,
  }
  return Spec(**fields | changes)


def test_the_machine_s_limits_are_the_medians_and_the_quickest_product():
  seconds = {"square": [2.0, 9.0, 1.0], "logits": [4.0], "bandwidth": [5.0, 5.0]}
  limits = measure.machine_rates({"square": 6.0, "logits": 8.0, "bandwidth": 10.0}, seconds)
  assert limits == {"gemm_rate": 3.0, "bandwidth": 2.0}


def test_every_arm_meets_every_engine_that_can_train_it_and_few_seeds_come_first():
  cells = measure.make_cells(make_spec(widths=(2, 8)))
  assert [cell.num_seeds for cell in cells] == [3] * 10 + [10] * 10
  found = [(cell.arm.name, cell.engine, cell.width) for cell in cells[:10]]
  grouped = [("sgd", "gram", 2), ("sgd", "gram", 8), ("sgd", "primal", 2), ("sgd", "primal", 8)]
  assert found[:4] == grouped
  assert found[4:6] == [("sgd", "primal_loop", 0), ("sgd", "torch_vmap", 0)]
  assert not any(engine == "gram" for arm, engine, _ in found if arm == "adam")


def test_engines_of_which_none_can_train_any_arm_are_refused():
  measure.check(make_spec())
  assert_fails(lambda: measure.check(make_spec(arms=(ADAM,), engines=("gram",))), "--engine")


@pytest.mark.parametrize(
  ("engine", "width", "timed", "scale"),
  [
    ("primal", 4, 4, 3),  # Three groups of 4 hold 10 seeds, and the last is filled up.
    ("primal_loop", 1, 4, 2.5),  # Four of 10 are timed.
    ("torch_vmap", 6, 6, 10 / 6),
  ],
)
def test_the_time_of_some_seeds_is_scaled_to_all(engine, width, timed, scale):
  cell = Cell(SGD, engine, 10, 4, width)
  assert measure._timed_seeds(make_spec(), cell) == timed
  assert measure._scale(make_spec(), cell) == scale


def test_work_is_counted_before_it_is_done():
  """Of each cell one compilation, a warm-up and the repeats; of each arm a training."""
  spec = make_spec(repeats=3)
  cells = measure.make_cells(spec)
  assert measure.count_tasks(spec, cells) == len(cells) * (1 + 1 + 3) + 2
