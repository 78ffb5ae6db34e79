"""The verdict and the page: made of the rows' numbers, and without a reason for what is not so."""

import base64
import html
import re

from planted_rows import made_up

from jaxinv.experiments.benchmark import page
from jaxinv.experiments.benchmark.page import verdict


def test_the_verdict_is_made_of_the_numbers():
  rows = [made_up("sgd", "primal", 1.0), made_up("sgd", "gram", 0.1)]
  rows += [made_up("momentum", "primal", 1.3), made_up("adam", "primal", 1.6)]
  rows += [made_up("adam", "torch_loop", 3.2), made_up("sgd", "torch_loop", 9.9, seeds=1)]
  step, arrival, gain = verdict(rows)
  assert "adam takes 1.6 times as long as one of sgd by the same engine (primal" in step
  # 8 MB against 4 MB at 10 GB/s.
  assert "8 MB" in step and "would take 0.4 ms, and the step is 0.6 ms longer." in step
  assert (
    "a step of momentum takes 1.3 times as long as one of sgd." in step
    and "would take 0.1 ms at the best rate" in step
  )
  assert "0.1 ms a seed; adam cannot" in step and "takes 16 times that" in step
  assert "sgd in 30 steps or 0.012 s" in arrival and "0.800: sgd in 20 steps" in arrival
  assert "16 times as long, each by its quickest" in arrival
  assert "1.6 times as long, both by primal" in arrival
  assert "primal 10 times" in gain and "torch_loop 2 times" in gain


def test_the_verdict_gives_no_reason_for_what_is_not_so():
  quick = [made_up("sgd", "primal", 1.0), made_up("adam", "primal", 0.9, iqr=0.3)]
  step, *_ = verdict(quick)
  assert "0.9 times as long as one of sgd (within the spread" in step
  assert "longer" not in step and "gram" not in step and "caches" not in step
  cached = [made_up("sgd", "primal", 1.0), made_up("adam", "primal", 1.1)]
  assert "the step is 0.1 ms longer, so part of it must be served by caches" in (verdict(cached)[0])
  spans = [made_up("sgd", "gram", 1.0), made_up("momentum", "gram", 1.1)]
  step, *_ = verdict(spans)
  assert "No engine other than the span's trained both" in step and "cannot" not in step


def test_the_verdict_says_what_was_not_reached_and_what_is_not_there():
  missing = {"seconds_to_accuracy": None, "seeds_reached": 1}
  rows = [made_up("sgd", "primal", 1.0), made_up("adam", "primal", 2.0, **missing)]
  arrival = verdict(rows)[1]
  assert "adam reached it in 1 of 4 models within 100 steps" in arrival
  assert arrival.count("as long") == 2  # Of the held-out accuracy only.
  nothing = {"holdout_target": None, "seconds_to_holdout": None}
  alone = [made_up("sgd", "primal", 1.0, **nothing)]
  arrival, gain = verdict(alone)
  assert "held-out" not in arrival and "as long" not in arrival + gain


CONFIG = {
  "versions": {"python": "3.11"},
  "device": {"kind": "cpu", "count": 1},
  "precision": "highest",
  "git_revision": None,
  "flags": {"steps": 10},
}


def test_the_page_holds_the_verdict_the_table_and_both_figures(tmp_path):
  same = {"device": "a machine", "repeats": 5, "steps": 10, "seconds_to_accuracy": None}
  rows = [made_up("sgd", "primal", 1.0, **same), made_up("adam", "primal", 2.0, **same)]
  text = html.unescape(page.write_page(tmp_path, rows, "python -m x", CONFIG).read_text())
  assert "<title>sgd against adam: what training costs</title>" in text
  shown = re.sub("<[^>]*>", "", text)
  assert all(paragraph in shown for paragraph in verdict(rows))
  assert "Device: a machine. A time is the median of 5 repeats of 10 steps each" in shown
  for name in ("throughput", "accuracy"):
    drawn = (tmp_path / "figures" / f"{name}.png").read_bytes()
    assert base64.b64encode(drawn).decode() in text
  assert "<td>adam</td><td>primal</td>" in text and "python -m x" in text
