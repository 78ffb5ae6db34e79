"""Rows of the benchmark: chosen, compared and as a table."""

import pytest
from planted_rows import made_up

from jaxinv.experiments.benchmark import rows as of_rows


def test_the_table_compares_with_pytorch_where_it_was_timed():
  rows = [made_up("sgd", "primal", 1.0), made_up("sgd", "torch_loop", 4.0)]
  head, texts = of_rows.table(rows)
  assert head[-1] == "x PyTorch" and [line[-1] for line in texts] == ["4", "1"]
  assert "x PyTorch" not in of_rows.table(rows[:1])[0]


def test_the_table_leaves_empty_what_was_not_measured_and_rounds_the_rest():
  row = made_up("sgd", "primal", 1.23456, iqr=0.05, seconds_to_accuracy=None)
  head, (texts,) = of_rows.table([row])
  shown = dict(zip(head, texts, strict=True))
  assert shown["compile s"] == shown["peak MB"] == shown["s to train"] == ""
  assert (shown["batch"], shown["ms/step"], shown["IQR"]) == ("full", "1.23", "5%")
  (texts,) = of_rows.table([row | {"peak_bytes": 12_600_000, "batch_size": 8}])[1]
  assert (texts[0], texts[head.index("peak MB")]) == ("8", "13")


def test_of_rows_that_match_the_quickest_is_taken():
  rows = [made_up("sgd", "primal", ms, width=w) for ms, w in ((3.0, 1), (1.0, 2), (2.0, 4))]
  assert of_rows.quickest(rows, arm="sgd")["width"] == 2
  assert of_rows.quickest(rows, arm="adam") is None
  assert of_rows.milliseconds(of_rows.quickest(rows)) == 1.0


@pytest.mark.parametrize(("iqr", "is_within"), [(0.1, False), (0.3, True)])
def test_a_ratio_is_of_times_and_says_whether_it_is_within_the_spread(iqr, is_within):
  """2.0 and 2.4 ms differ by 0.4: half the ranges are 0.22 together, or 0.66."""
  slow, quick = made_up("sgd", "primal", 2.4, iqr=iqr), made_up("sgd", "primal", 2.0, iqr=iqr)
  assert of_rows.ratio(slow, quick).times == pytest.approx(1.2)
  assert of_rows.ratio(quick, slow).times == pytest.approx(1 / 1.2)
  assert of_rows.ratio(slow, quick).is_within_spread is is_within


@pytest.mark.parametrize(
  ("arms", "rival"),
  [(("sgd", "momentum", "adam"), "adam"), (("adam", "sgd"), "sgd"), (("sgd",), None)],
)
def test_the_rival_is_adam_or_else_the_second_arm(arms, rival):
  assert of_rows.find_rival([made_up(arm, "primal", 1.0) for arm in arms]) == rival


def test_two_arms_are_compared_by_an_engine_that_trains_both():
  rows = [
    made_up("sgd", "gram", 0.1),
    made_up("sgd", "primal", 1.0),
    made_up("sgd", "torch_vmap", 4.0),
  ]
  rows += [made_up("adam", "torch_vmap", 6.0)]
  found = of_rows.compare(rows, "sgd", "adam")
  assert found["step"]["first"]["engine"] == "torch_vmap"
  assert found["step"]["ratio"].times == pytest.approx(1.5)
  assert found["span"]["other"].times == pytest.approx(60) and not found["span"]["rival_can"]
  assert [one["best"]["engine"] for one in found["engines"]] == ["gram", "torch_vmap"]
