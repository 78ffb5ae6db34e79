"""What is found says itself shortly, and is counted right."""

import numpy as np
import pytest
from audit_results import plant

from jaxinv.auditing import findings
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


def test_matches_rank_before_structure_and_that_before_noise():
  finding = plant(7, 5, 3)
  # Of three matches the last stands out most, though as little smooth; then Moran's I counts.
  assert findings.rank(finding).tolist() == [2, 1, 0, 3, 4, 5, 6]
  assert findings.rank(plant(7, 5)).tolist() == list(range(7))
