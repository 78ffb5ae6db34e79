"""How long a step takes is what a longer chunk takes more, for each network."""

import pytest

from jaxinv.experiments.networks import timing


def test_what_every_chunk_takes_is_no_part_of_a_step(tiny, monkeypatch):
  """Planted: evaluation takes 7 s, and a step 0.25 s a network, in a group of any width."""
  asked = []

  def chunks(settings, data):
    asked.append((settings.num_seeds, settings.width, [arm.name for arm in settings.arms]))
    return lambda steps: None

  def time_calls(calls, repeats, done):
    for name in calls:
      done(name)
    return {(w, steps): [7 + 0.25 * w * steps + late for late in (0, 0, 9)] for w, steps in calls}

  monkeypatch.setattr(timing, "_chunks", chunks)
  monkeypatch.setattr(timing.timing, "time_calls", time_calls)
  finished = []
  times = timing.seconds_a_step(
    tiny.settings, tiny.data, tiny.settings.arms[0], (1, 4), finished.append
  )
  assert times == {1: pytest.approx(0.25), 4: pytest.approx(0.25)}
  assert asked == [(1, 1, ["plain"]), (4, 4, ["plain"])]
  assert {width for width, _ in finished} == {1, 4}
