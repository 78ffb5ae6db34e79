"""Times SGD against Adam, and many models as one program against one model at a time.

  python -m launch.benchmark --out_dir=runs/benchmark
  python -m launch.benchmark --num_seeds=1,8 --batch_size=32 --repeats=3 --max_steps=300

For every arm, every --num_seeds and every --batch_size it trains a linear classifier with two
engines: `primal`, one compiled program for all seeds, and `primal_loop`, a program for one model
called for one seed after the other (for the first --loop_seeds of them; their time is scaled to
all seeds). The steps timed are those of launch.faces without its records. Everything runs in this
process on the first device, all measurements in turns.

Writes benchmark.json, benchmark.csv, figures/ and report.html. Nothing is kept of a benchmark that
was interrupted: the same command starts anew.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped.
"""

import csv
import io
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array, Float, Key
from rich.console import Console
from rich.table import Table

from jaxinv import ensemble, experiment, files, results, timing, train
from jaxinv.errors import InputError
from jaxinv.experiment import Arm, Settings
from jaxinv.figures import benchmark as figures
from jaxinv.figures.common import save
from jaxinv.losses import LOSSES
from jaxinv.models import make_model
from jaxinv.optimizers import OPTIMIZERS
from jaxinv.report import Picture, Section, write_report
from jaxinv.report import Table as PageTable
from jaxinv.types import Data, Dataset, Hyper, Record, TrainState
from launch import flags as shared
from launch.arms import parse_arms
from launch.progress import ProgressBar
