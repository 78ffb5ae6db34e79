"""Groups of toy models: chunks, neighbours and stops change no bit; controls recover nothing."""

from dataclasses import replace

import numpy as np
import pytest

from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.experiments.toy import groups, toy


def test_chunks_change_no_bit(settings):
  whole = groups.run(replace(settings, chunk=60))
  for chunk in (1, 7, 0):
    part = groups.run(replace(settings, chunk=chunk))
    np.testing.assert_array_equal(part.weights, whole.weights)


def test_a_seed_does_not_know_its_neighbours(settings):
  changed = replace(settings, width=2, batch_size=5)
  two, five = (groups.run(replace(changed, num_seeds=n)).weights for n in (2, 5))
  np.testing.assert_array_equal(two, five[:2])
  wide = groups.run(replace(changed, num_seeds=5, width=5)).weights
  np.testing.assert_allclose(wide, five, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_a_stopped_run_goes_on_bit_for_bit(settings, tmp_path, stop_at):
  changed = replace(settings, width=2, batch_size=5)
  looks = iter(range(100))
  with pytest.raises(Stopped, match="stopped at step"):
    groups.run(changed, tmp_path, Host(stop=lambda: next(looks) == stop_at))
  work = []
  outcome = groups.run(changed, tmp_path, Host(advanced=lambda _, steps: work.append(steps)))
  assert sum(work) == 4 * 60
  np.testing.assert_array_equal(outcome.weights, groups.run(changed).weights)


def test_of_the_first_seeds_the_weights_are_kept_and_of_all_the_measures(settings):
  five = replace(settings, num_seeds=5, width=2)
  full, some = groups.run(five), groups.run(replace(five, save_seeds=1))
  np.testing.assert_array_equal(some.weights, full.weights[:1])
  np.testing.assert_array_equal(some.recovered, full.recovered[:1])
  np.testing.assert_equal(some.measures, full.measures)


def test_shuffled_labels_are_not_recovered(settings, monkeypatch):
  def shuffled(settings, seeds):
    data = draw(settings, seeds)
    return data._replace(labels=np.random.default_rng(0).permutation(data.labels))

  draw = toy.draw
  monkeypatch.setattr(groups, "draw", shuffled)
  outcome = groups.run(replace(settings, steps=2000, spread=1.0, points_per_class=100))
  assert (outcome.measures["reshape"]["max_error"] > 0.5).all()
