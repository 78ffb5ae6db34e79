"""What all tests share: shapes checked at run time, no silent broadcasting, tiny data.

A data set here has means that are planted, and noise about them, so that the truth is known.
"""

import io
import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # An accelerator only where one is asked for.
# Compiling takes most of the tests' time, and what they state holds of hardly optimised programs
# too. With 0 in its place they test what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Twice as quick to compile, where that is most of the time: the emitters of loops that jaxlib 0.10
# still has beside its new ones (later versions stop at flags they do not know).
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and version("jaxlib").startswith("0.10."):
  _OLD = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
  os.environ["XLA_FLAGS"] = f"{_OLD} {os.environ.get('XLA_FLAGS', '')}"
# Programs that many tests compile are compiled once, and not into the user's own cache folder.
CACHE = Path(__file__).resolve().parent.parent / ".pytest_cache" / "jaxinv"
os.environ["XDG_CACHE_HOME"] = str(CACHE)

import jaxtyping  # noqa: E402

# Before the first import of jaxinv: every annotated shape of a call is checked from here on.
jaxtyping.install_import_hook("jaxinv", "beartype.beartype")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from PIL import Image  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from helpers import plant  # noqa: E402
from jaxinv.ensemble.groups import Host  # noqa: E402
from jaxinv.experiments import experiment, outcome, planning  # noqa: E402
from jaxinv.experiments.groups import run_groups  # noqa: E402
from jaxinv.experiments.settings import Arm, Settings  # noqa: E402
from jaxinv.types import Dataset, Hyper  # noqa: E402

_MOST_MAPS = 15_000

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE / "jaxinv" / "compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


@pytest.fixture(scope="module", autouse=True)
def _few_programs():
  """Lets go of compiled programs in time: each is mapped, and Linux allows 65,530 maps."""
  yield
  maps = Path("/proc/self/maps")
  if maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
    jax.clear_caches()


@pytest.fixture(scope="session")
def planted() -> Dataset:
  """5 people, 8 images each, of 13 x 11 pixels."""
  return plant()


@pytest.fixture(scope="session")
def blurred(planted) -> Dataset:
  """The planted images, whose pixels are now like their neighbours'."""
  images = gaussian_filter(planted.inputs.reshape(-1, *planted.image_shape), (0, 1.5, 1.5))
  images = (images - images.min()) / np.ptp(images)
  return planted._replace(inputs=images.reshape(len(images), -1))


@pytest.fixture
def undrawn(monkeypatch):
  """Figures are made but not drawn, which takes as long as all else of a small run.

  A fixture of a module or the session that runs a command is made before, and draws.
  """
  blank = io.BytesIO()
  Image.new("RGB", (1, 1)).save(blank, "png")
  monkeypatch.setattr(Figure, "savefig", lambda _, file, **how: file.write(blank.getvalue()))


@pytest.fixture(scope="session")
def make_planted():
  """The function that plants a data set."""
  return plant


@pytest.fixture(scope="session")
def lab(planted) -> experiment.Experiment:
  """Three arms of one optimiser, the last of which diverges, in groups of 4, 4 and 1 runs."""
  arms = (
    Arm("plain", "sgd", Hyper(learning_rate=0.5)),
    Arm("decay", "sgd", Hyper(0.2, weight_decay=0.1, label_smoothing=0.1, clip_norm=1.0)),
    Arm("wild", "sgd", Hyper(learning_rate=1e9, weight_decay=1e9)),
  )
  settings = Settings(arms, num_seeds=3, steps=6, batch_size=8, width=4, record_every=2, watch=1)
  return experiment.make_experiment(settings, planted)


@pytest.fixture(scope="session")
def trained(lab) -> list[dict[str, np.ndarray]]:
  """What is kept of the lab's groups, trained without interruption. Not to be changed."""
  return run_groups(lab, planning.plan(lab), None, Host())


@pytest.fixture(scope="session")
def found(lab, trained) -> outcome.Outcome:
  """The same, put together."""
  return outcome.assemble(lab, trained)
