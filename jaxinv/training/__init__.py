"""One model's engines: what a step is. A loss and an optimiser are values, by name or your own."""

from jaxinv.training.hyper import check_hyper, used
from jaxinv.training.losses import LOSSES, Loss
from jaxinv.training.optimizers import OPTIMIZERS, SCHEDULES
from jaxinv.training.primal import make_trainer
from jaxinv.training.trainer import Trainer, run

__all__ = [
  "LOSSES",
  "OPTIMIZERS",
  "SCHEDULES",
  "Loss",
  "Trainer",
  "check_hyper",
  "make_trainer",
  "run",
  "used",
]
