"""Libraries that not everyone has: what needs them is skipped without."""

import pytest


@pytest.fixture
def torch():
  return pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")


@pytest.fixture
def h5py():
  return pytest.importorskip("h5py", reason="h5py, an optional dependency, is not installed")
