"""Tables: what a run measured as rows, and what is not finite as nothing."""

import json

import numpy as np

from jaxinv.metrics.stats import Interval
from jaxinv.runs import tables


def test_a_row_is_a_measurement_and_what_is_not_finite_has_none(tmp_path):
  values = np.array([0.5, np.nan, 1 / 3])
  arms = {"a": {"reshape": {"ncc": values}, "seed_mean": {"ncc": np.array([np.inf])}}}
  tables.write_metrics(tmp_path, arms | {"b": {"seed_mean": {"ssim": np.array([-2.0])}}})
  assert (tmp_path / "metrics.csv").read_text().splitlines() == [
    "arm,seed,attack,metric,value",
    "a,0,reshape,ncc,0.5",
    "a,2,reshape,ncc,0.333333333",
    "b,-1,seed_mean,ssim,-2",
  ]


def test_words_with_commas_are_quoted(tmp_path):
  tables.write_csv(tmp_path / "x.csv", ["a", "b"], [["x,y", 1], ['say "z"', ""]])
  assert (tmp_path / "x.csv").read_text() == 'a,b\n"x,y",1\n"say ""z""",\n'


def test_json_holds_no_nan_and_names_the_fields_of_tuples():
  value = {1: Interval(0.5, None, float("nan"), 3), "x": [np.float32(2), np.array([1.0, np.inf])]}
  made = tables.plain(value)
  assert made == {
    "1": {"mean": 0.5, "low": None, "high": None, "n": 3},
    "x": [2.0, [1.0, None]],
  }
  json.dumps(made, allow_nan=False)


SUMMARY = {
  "sgd": {
    "reshape": {"ncc": {"mean": 0.5, "low": None, "high": None, "n": 1}},
    "diverged": [3],
    "seed_mean_of": {"1": {"ncc": 0.1}},
  }
}


def test_the_means_of_a_summary_are_rows_and_what_else_is_in_it_is_passed_over():
  assert tables.number_rows(SUMMARY) == [("sgd", "reshape", "ncc", "0.500", "", "", "1")]


def test_a_cell_that_is_not_there_is_none():
  assert tables.cell(SUMMARY, "sgd", "reshape", "ncc") == Interval(0.5, None, None, 1)
  assert tables.cell(SUMMARY, "sgd", "reshape", "ssim") is None
  assert tables.cell(SUMMARY, "adam", "reshape", "ncc") is None
