"""The page of inverted networks: its figures, and the numbers that its template is filled with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxinv.experiments.networks import claims, figures
from jaxinv.experiments.networks.findings import NetworksResult, Summary
from jaxinv.experiments.networks.settings import RobustnessTest
from jaxinv.metrics.stats import Interval
from jaxinv.runs import page
from jaxinv.runs.figures import save_all
from jaxinv.runs.text import interval, number


class PageData(NamedTuple):
  """All that the page is of.

  Attributes:
    result: what came of the experiment.
    summary: what summary.json holds of the arms.
    paired: the last arm less the first, by inversion and metric; empty for one arm.
    robustness: how robust accuracy was measured.
    config: what config.json holds.
    command: the command line that makes this run.
    credit: a sentence that credits the owner of the images, or empty.
    held_out: share of each class's images that was divided off as test images; None where the data
      set came divided.
  """

  result: NetworksResult
  summary: Summary
  paired: Mapping[str, Mapping[str, Interval]]
  robustness: RobustnessTest
  config: Mapping
  command: str
  credit: str = ""
  held_out: float | None = None


def write_page(out_dir: Path, data: PageData) -> Path:
  """Draws the figures into `out_dir/figures` and writes `out_dir/report.html`.

  Args:
    out_dir: the run's folder.
    data: what the page is of.

  Returns:
    The page's path.
  """
  result, living = data.result, claims.surviving(data.result)
  values = {
    "command": data.command,
    "config": data.config,
    "credit": data.credit,
    "chance": 1 / len(result.names),
    "names": list(result.names),
    "verifier": result.verifier,
    "diverged": [
      {"arm": arm, "seeds": data.summary[arm]["diverged"], "some_left": arm in living.arms}
      for arm in result.arms
      if data.summary[arm]["diverged"]
    ],
    "arms": list(living.arms),
  }
  if living.arms:
    both = {next(iter(result.arms)), list(result.arms)[-1]} <= set(living.arms)
    data = data._replace(result=living, paired=data.paired if both else {})
    values |= _claims(data) | _tables(data) | _about(data)
    values["figures"] = save_all(_draw(data), out_dir / "figures")
  return page.write_page(out_dir / "report.html", __package__, values)


def _claims(data: PageData) -> dict[str, Any]:
  """What was recognised, how the arms differ, and what is remembered."""
  result = data.result
  inversions = figures.inversions(result)
  tests = claims.memory_tests(result)
  return {
    "inversions": inversions,
    "recognised": [
      {
        "arm": name,
        "adversary": arm.adversary,
        "by": [
          (
            inversion,
            data.summary[name][inversion]["verifier_accuracy"],
            claims.by_chance(result, name, inversion),
          )
          for inversion in inversions
        ],
      }
      for name, arm in result.arms.items()
    ],
    "difference": claims.difference(result, data.paired, inversions[0]),
    "remembered": list(dict.fromkeys((it.arm, it.inversion) for it in tests if it.is_shown)),
    "num_p_values": 2 * len(tests),
    "smallest_p": min(min(it.test.p_share, it.test.p_margin) for it in tests),
  }


def _tables(data: PageData) -> dict[str, list[tuple[str, ...]]]:
  """Rows of the tables, by name; the columns' heads are in the template."""
  result, arms = data.result, data.result.arms

  def cells(arm: str, attack: str, *metrics: str) -> tuple[str, ...]:
    return tuple(interval(data.summary[arm].get(attack, {}).get(name)) for name in metrics)

  measures = ("verifier_accuracy", "verifier_confidence", "own_accuracy", "diversity")
  accuracies = ("train_accuracy", "holdout_accuracy", "robust_accuracy")
  first = figures.inversions(result)[0]
  return {
    "measure_rows": [
      (name, how, *cells(name, how, *measures))
      for name, arm in arms.items()
      for how in arm.inverted
    ],
    "paired_rows": [
      (how, *(interval(gains.get(metric)) for metric in (*measures[:2], measures[3])))
      for how, gains in data.paired.items()
    ],
    "class_rows": [
      (name, *(number(share, 2) for share in np.nanmean(arm.inverted[first].by_class, 0)))
      for name, arm in arms.items()
    ],
    "memory_rows": [
      (
        *(it.arm, it.inversion, it.by, number(it.test.share), number(it.test.margin, 4)),
        *(number(it.test.p_share), number(it.test.p_margin)),
        "memorised" if it.is_shown else "not shown",
      )
      for it in claims.memory_tests(result)
    ],
    "control_rows": [
      (name, *(number(verdict[metric]) for metric in measures[:2]))
      for name, verdict in result.controls.items()
    ],
    "model_rows": [
      *((name, arm.adversary, *cells(name, "model", *accuracies)) for name, arm in arms.items()),
      (
        *("the verifier", result.verifier_adversary),
        *(number(result.verifier.get(name)) for name in accuracies),
      ),
    ],
  }


def _about(data: PageData) -> dict[str, Any]:
  """What was trained on, by which network, and how it was attacked."""
  result, attack = data.result, data.robustness
  num_test = len(result.test_labels)
  return {
    "num_train": len(result.train_labels),
    "num_test": num_test,
    "held_out": data.held_out,
    "attack": attack,
    "num_attacked": min(attack.images or num_test, num_test),
    "image_shape": result.image_shape,
    "kernel_shape": next(iter(result.arms.values())).kernels.shape[:3]
    if _convolves(result)
    else None,
    "class_shown": result.names[_class_shown(result)],
  }


def _convolves(result: NetworksResult) -> bool:
  """Whether all networks begin with a convolution, as those of the caller's own may not."""
  return all(arm.kernels is not None for arm in result.arms.values())


def _class_shown(result: NetworksResult) -> int:
  """The class of which several restarts are shown: the article's bird, where there is one."""
  return result.names.index("bird") if "bird" in result.names else 0


def _draw(data: PageData) -> dict[str, Any]:
  """All figures by name: of the first inversion, and of the others what only some look for."""
  result, summary = data.result, data.summary
  first, *others = figures.inversions(result)
  *earlier, last = result.arms
  return {
    "grid": figures.grid_figure(result, first),
    "restarts": figures.restarts_figure(result, first, _class_shown(result)),
    "recognition": figures.recognition_figure(result, summary),
    "memorisation": figures.memorisation_figure(result, summary),
    "neighbours": figures.neighbours_figure(result, last, first),
    "curves": figures.curves_figure(result),
    **({"kernels": figures.kernels_figure(result)} if _convolves(result) else {}),
    **{f"grid-{how}": figures.grid_figure(result, how) for how in others},
    **{f"neighbours-{arm}": figures.neighbours_figure(result, arm, first) for arm in earlier},
  }
