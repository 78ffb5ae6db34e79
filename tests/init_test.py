"""`import jaxinv` loads nothing that is not used, and offers what INTERFACE names."""

import subprocess
import sys

import pytest

import jaxinv


@pytest.mark.parametrize("name", jaxinv.__all__)
def test_every_name_is_there(name):
  assert getattr(jaxinv, name).__doc__ and name in dir(jaxinv)


def test_a_name_that_is_not_there_is_an_attribute_error():
  assert isinstance(jaxinv.__version__, str) and jaxinv.__version__[0].isdigit()
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    jaxinv.nothing  # noqa: B018


@pytest.mark.parametrize(
  ("program", "absent"),
  [
    ("import jaxinv", ("jax", "numpy", "matplotlib")),
    ("from jaxinv import audit", ("matplotlib", "jaxinv.experiments", "jaxinv.training")),
    (
      "import jaxinv.auditing.page",
      ("jaxinv.training.gram", "jaxinv.experiments.study.study", "jaxinv.experiments"),
    ),
  ],
)
def test_a_program_loads_only_what_it_uses(program, absent):
  program += f"\nimport sys\nassert not [name for name in {absent} if name in sys.modules]"
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
