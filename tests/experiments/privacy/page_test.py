"""The page says whether the claims stand, what the guarantee is of, and what bears it out."""

import pytest

from jaxinv.experiments.privacy.files import write_privacy
from jaxinv.experiments.privacy.page import PageData, write_page
from jaxinv.metrics.empirical import Bound

CONFIG = {
  "versions": {"jax": "0"},
  "device": {"count": 1, "kind": "cpu"},
  "precision": "highest",
  "git_revision": "abc",
  "flags": {},
}


@pytest.fixture(scope="module")
def write(tmp_path_factory, spec, result, planted):
  """The page's text, of the shared result or of one that is changed."""

  def page_of(changed=result, dataset=planted):
    out_dir = tmp_path_factory.mktemp("page")
    summary = write_privacy(out_dir, spec, changed)
    data = PageData(dataset, spec, changed, summary, CONFIG, "jaxinv privacy")
    return write_page(out_dir, data).read_text()

  return page_of


def test_the_page_says_what_is_guaranteed_and_what_is_not(write, planted):
  text = write(dataset=planted._replace(credit="Photographs of nobody."))
  for words in (
    "The claims stand",
    "the number of photographs, which is public",
    "Outside it",
    "one photograph",
    "delta = 1e-05",
    "6 photographs",
    "all 3 models",
    "Photographs of nobody.",
    "180 models were trained",
    "jaxinv privacy",
  ):
    assert words in text, words
  assert text.count("<img") == 2 and "refuted.</b>" not in text


def test_a_bound_above_its_claim_is_the_first_thing_said(write, result):
  audits = list(result.audits)
  audits[1] = audits[1]._replace(bound=Bound(9.5, audits[1].errors), refutes=True)
  text = write(result._replace(audits=tuple(audits)))
  assert "The claim is refuted" in text and "at least 9.5" in text and "claims stand" not in text


def test_without_audit_and_with_models_that_all_diverged_there_is_a_page(write, result):
  name, point = next(iter(result.points.items()))
  none = point.leakage._replace(mean=None, low=None, high=None, n=0)
  lost = point._replace(accuracy=none, leakage=none, naive=none, identified=none)
  lost = lost._replace(attack=None, identifier=None)
  text = write(result._replace(points=result.points | {name: lost}, stage=None, audits=()))
  assert "The empirical epsilon" not in text and text.count("<img") == 1
