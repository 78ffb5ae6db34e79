"""Each engine, and a compiled group of it."""

import pytest

from benches import ENGINES, Bench


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
  return request.param


@pytest.fixture(scope="module")
def bench(planted, engine):
  return Bench(planted, engine=engine)
