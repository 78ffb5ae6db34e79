"""The files of a run with networks: numbers, recovered images, weights, curves."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxinv.experiments.networks import outcome
from jaxinv.experiments.networks.findings import Inverted, NetworksResult, Summary
from jaxinv.metrics.stats import Interval
from jaxinv.runs import files
from jaxinv.runs.tables import plain, write_metrics


def write(
  out_dir: Path, result: NetworksResult, paired: Mapping[str, Mapping[str, Interval]]
) -> Summary:
  """Writes metrics.csv, summary.json, recovered/, weights/ and history.npz.

  Args:
    out_dir: the run's folder.
    result: what came of the experiment.
    paired: the last arm less the first; see `outcome.compare`.

  Returns:
    The summary of the arms, as recorded in summary.json.
  """
  measures = outcome.table(result)
  write_metrics(out_dir, measures)
  history = {}
  for name, arm in result.arms.items():
    saved = len(next(iter(arm.variables.values())))
    images = {how: _of_first(saved, one, result.image_shape) for how, one in arm.inverted.items()}
    files.write_npz(out_dir / "recovered" / f"{name}.npz", images)
    files.write_npz(out_dir / "weights" / f"{name}.npz", arm.variables)
    history[f"{name}/step"] = arm.steps
    history |= {f"{name}/{curve}": values for curve, values in arm.history.items()}
  files.write_npz(out_dir / "weights" / "verifier.npz", result.verifier_variables)
  files.write_npz(out_dir / "history.npz", history)
  summary = outcome.summarize(result)
  more = {
    "memorised": {
      name: {how: inverted.memorised for how, inverted in arm.inverted.items()}
      for name, arm in result.arms.items()
    },
    "verifier": result.verifier,
    "controls": result.controls,
    "paired": paired,
  }
  files.write_json(out_dir / "summary.json", plain({**summary, **more}))
  return summary


def _of_first(
  num: int, inverted: Inverted, image_shape: tuple[int, int, int]
) -> Float[np.ndarray, "s k r h w c"]:
  """Images of the first `num` seeds, in 0..255; NaN for a seed that diverged."""
  images = np.full((num, *inverted.images.shape[1:3], *image_shape), np.nan, np.float32)
  for seed, image in zip(inverted.seeds, inverted.images, strict=True):
    if seed < num:
      images[seed] = 255 * image.reshape(images.shape[1:])
  return images
