"""Groups are as wide as is quick and fits the memory, and hold every run once."""

from dataclasses import replace
from functools import cache

import jax
import pytest

from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.program import state_shapes, widest
from jaxinv.ensemble.seeds import train_keys
from jaxinv.errors import InputError
from jaxinv.experiments import experiment, planning
from jaxinv.experiments.groups import sum_of
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.types import Hyper


@pytest.fixture
def ample(monkeypatch):
  """Memory enough for any group, without the compiler's being asked."""
  monkeypatch.setattr(planning, "peak_bytes", lambda lab, name, width: 0)


def test_a_plan_trains_every_run_once_in_groups_of_one_width(planted, ample):
  arms = (Arm("a", "sgd", Hyper()), Arm("b", "adam", Hyper()), Arm("c", "sgd", Hyper()))
  lab = experiment.make_experiment(Settings(arms, num_seeds=5, width=4, batch_size=8), planted)
  groups = planning.plan(lab)
  runs = [run for group in groups for run in group.runs]
  assert sorted(runs) == [(arm, seed) for arm in range(3) for seed in range(5)]
  assert {group.width for group in groups} == {4}
  for group in groups:
    assert {arms[arm].optimizer for arm, _ in group.runs} == {group.engine}


def test_several_processes_have_a_group_each_where_there_are_runs_enough(planted, ample):
  settings = Settings((Arm("a", "sgd", Hyper()),), num_seeds=10, batch_size=8)
  lab = experiment.make_experiment(settings, planted)
  assert [len(planning.plan(lab, n)) for n in (1, 2, 3, 10, 20)] == [1, 2, 3, 10, 10]
  for n in (2, 3):
    runs = [run for group in planning.plan(lab, n) for run in group.runs]
    assert runs == [(0, seed) for seed in range(10)]


@pytest.mark.parametrize(
  ("num_arms", "num_seeds", "width"), [(1, 8, 8), (3, 1, 4), (3, 3, 4), (5, 4, 6), (2, 9, 1)]
)
def test_no_group_has_more_sums_than_it_has_places_for(planted, ample, num_arms, num_seeds, width):
  arms = tuple(Arm(str(i), "sgd", Hyper()) for i in range(num_arms))
  settings = Settings(arms, num_seeds=num_seeds, width=width, batch_size=8)
  spans = [
    len({(arm, sum_of(settings, seed)) for arm, seed in group.runs})
    for group in planning.plan(experiment.make_experiment(settings, planted))
  ]
  assert max(spans) <= planning.places(settings, width) <= width


class Planned:
  """A lab on so many devices whose groups' peak is a planted line: 1000 bytes and 10 a run."""

  def __init__(self, monkeypatch, dataset, num_devices=1, **settings):
    usual = {"arms": (Arm("a", "sgd", Hyper()),), "batch_size": 8, "memory_fraction": 0.25}
    lab = experiment.make_experiment(Settings(**usual | settings), dataset)
    engine = lab.engines["sgd"]
    devices = engine.program.devices * num_devices
    program = engine.program._replace(devices=devices)
    self.lab = lab._replace(engines={"sgd": engine._replace(program=program)})
    self.monkeypatch = monkeypatch
    monkeypatch.setattr(planning, "peak_bytes", lambda lab, name, width: 1000 + 10 * width)

  def width(self, fitting, num_runs):
    """The width chosen for so many runs where the memory is just enough for `fitting`."""
    budget = 4 * (1000 + 10 * fitting)
    self.monkeypatch.setattr(memory, "device_memory", lambda: budget)
    return planning.choose_width(self.lab, "sgd", num_runs)


@pytest.mark.parametrize("num_devices", [1, 4])
@pytest.mark.parametrize("num_runs", [1, 3, 100, 128, 129, 300, 5000])
def test_groups_are_alike_fit_the_memory_and_use_all_devices(
  planted, monkeypatch, num_devices, num_runs
):
  planned = Planned(monkeypatch, planted, num_devices)
  for fitting in (4, 7, 50, 128, 10**6):
    width = planned.width(fitting, num_runs)
    assert 0 < width <= fitting and (width % num_devices == 0 or width == num_runs < num_devices)
    assert width <= widest(planned.lab.engines["sgd"].program)
    groups = -(-num_runs // width)
    # Less padding than a run a group and device; and no fewer groups were possible.
    assert groups * width - num_runs < groups * num_devices
    most = min(fitting // num_devices, 128) * num_devices
    assert groups == -(-num_runs // most)


def test_a_width_that_is_asked_for_is_taken_as_far_as_it_fits(planted, monkeypatch):
  planned = Planned(monkeypatch, planted, width=40)
  assert planned.width(40, 100) == planned.width(1000, 100) == planned.width(1000, 7) == 40
  assert planned.width(39, 100) <= 39


def test_where_not_one_run_a_device_fits_it_is_said_with_what_to_do(planted, monkeypatch):
  planned = Planned(monkeypatch, planted, 4)
  assert planned.width(4, 100) == 4
  assert planned.width(3, 3) == 3  # a run has a device to itself, another device none
  for num_runs in (4, 100):
    with pytest.raises(InputError, match=r"one model on each device.*memory_fraction") as caught:
      planned.width(3, num_runs)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module", params=["primal", "gram"])
def measured(request, planted):
  """A lab, and the compiler's word on the peak at each width."""
  arms = (Arm("a", "momentum", Hyper(clip_norm=1.0)),)
  lab = experiment.make_experiment(
    Settings(arms, steps=6, batch_size=8, engine=request.param), planted
  )
  return lab, cache(lambda width, real=planning.peak_bytes: real(lab, "momentum", width))


def test_the_width_follows_the_compilers_word_on_the_memory(measured, monkeypatch):
  """The group that is chosen takes no more than may be planned with, and not much less."""
  lab, peak = measured
  monkeypatch.setattr(planning, "peak_bytes", lambda lab, name, width: peak(width))
  lab = lab._replace(settings=replace(lab.settings, width=64, memory_fraction=0.5))
  widths = []
  for budget in (peak(1), (peak(1) + peak(64)) / 2, peak(64)):
    monkeypatch.setattr(memory, "device_memory", lambda budget=budget: int(2 * budget))
    widths.append(planning.choose_width(lab, "momentum", 10**6))
    assert peak(widths[-1]) <= budget
  assert widths[0] == 1 and 16 <= widths[1] < 64 and widths[2] == 64
  monkeypatch.setattr(memory, "device_memory", lambda: peak(1))
  with pytest.raises(InputError, match="one model on each device"):
    planning.choose_width(lab, "momentum", 10**6)


def test_the_peak_counts_all_that_a_group_holds(measured, planted):
  """Once the examples; of each run its state, and its first parameters again."""
  lab, peak = measured
  data = experiment.split_of(lab, [0])
  program = lab.engines["momentum"].program
  keys, hypers = train_keys(0, [0]), mapping.stack_hypers([Hyper()])
  states = state_shapes(program, keys, hypers, data)
  size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))  # noqa: E731
  run = size((states.params, states.params, states.opt_state))
  shared = planted.inputs.nbytes + (0 if data.gram is None else data.gram.nbytes)
  assert peak(64) >= shared + 64 * run
