"""The page says what summary.json says."""

import re

from jaxinv.experiments.photographs.files import summarize
from jaxinv.experiments.photographs.page import PageData, write_page

CONFIG = {
  "versions": {"jax": "0"},
  "device": {"count": 1, "kind": "cpu"},
  "precision": "highest",
  "git_revision": "none",
  "flags": {},
}


def test_the_lead_is_of_the_arm_that_gives_most_away(result, spec, leaves, tmp_path):
  data = PageData(leaves, spec, result, summarize(result, 0.05), CONFIG, "jaxinv photographs")
  text = re.sub("<[^>]*>", "", write_page(tmp_path, data).read_text())
  assert "100.0% are identified" in text and "Of the 12 photographs" in text
  assert text.count("control: ") >= 9 and "one a seed" not in text
  assert (tmp_path / "figures" / "map.png").is_file()


def test_a_run_whose_models_all_diverged_says_so(result, spec, leaves, tmp_path):
  lost = result.cells["sgd"][12]
  lost = lost._replace(attacked={"unmixed": [None, None]}, healthy=~lost.healthy)
  broken = result._replace(cells={"sgd": {12: lost}})
  data = PageData(leaves, spec, broken, summarize(broken, 0.05), CONFIG, "jaxinv photographs")
  assert "all diverged" in write_page(tmp_path, data).read_text()
