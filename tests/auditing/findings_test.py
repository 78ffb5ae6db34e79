"""What is found says itself shortly, and is counted right."""

import numpy as np
import pytest

from jaxinv.auditing.audit import audit
from jaxinv.auditing.findings import is_memory
from jaxinv.auditing.verdict import verdict


@pytest.mark.parametrize(
  ("name", "memory"),
  [
    ("opt_state/0/mu/params/Dense_0/kernel", True),
    ("optimizer/vars/1", True),
    ("optimizer.state.0.exp_avg", True),
    ("params/Dense_0/kernel", False),
    ("model.fc.weight", False),
  ],
)
def test_an_optimisers_memories_are_told_by_their_names(name, memory):
  assert is_memory(name) == memory


def test_an_audit_prints_its_verdict_and_no_arrays():
  noise = np.random.default_rng(0).standard_normal((9, 64)).astype(np.float32)
  smooth = np.add.outer(np.arange(8.0), np.arange(8.0)).ravel().astype(np.float32)
  found = audit({"w": np.concatenate([noise, [smooth]])}, (8, 8), attacks=["reshape"])
  text = repr(found)
  assert text.startswith(verdict(found)[0]) and "1 of 10 class images" in text
  assert "array(" not in text and len(text.splitlines()) < 12
  assert repr(found.findings[0]) == "Finding('w', 'reshape', 'class', num=10, structured=1)"
