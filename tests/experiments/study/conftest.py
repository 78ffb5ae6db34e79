"""A study of planted faces, trained once for all tests of its files, figures and page."""

import planted_studies
import pytest


@pytest.fixture(scope="session")
def written(tmp_path_factory):
  """What the page is of, and the folder into which the study's files are written."""
  out_dir = tmp_path_factory.mktemp("study")
  return planted_studies.make_data(out_dir), out_dir


@pytest.fixture(scope="session")
def data(written):
  """What the page is of."""
  return written[0]
