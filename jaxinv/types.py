"""The NamedTuples that travel between modules. No logic.

Axis names in shape annotations, everywhere in jaxinv:

  s  seeds, or runs (an arm with a seed) of a group      n  examples of a data set
  m  examples of a training split                        o  examples held out
  b  examples of a batch                                 p  features (pixels) of an example
  k  classes                                             u  units of a hidden layer
  h  height, w  width of an image in pixels              t  recorded steps
  c  colours of a pixel, 1 or 3                          i  recovered images
  d  values of a feature vector                          r  restarts of an inversion
"""

from enum import Enum
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

Params = Any  # A pytree of arrays, as Flax makes them.
OptState = Any  # A pytree of arrays, as optax makes them.
# A random key of JAX's new style: https://docs.jax.dev/en/latest/jep/9263-typed-keys.html
PRNGKey = Key[Array, ""]


class Dataset(NamedTuple):
  """Labelled examples on the host, as a loader returns them.

  Attributes:
    inputs: the examples, one a row; images row by row (h, then w, then c), in [0, 1].
    labels: class of each example, from 0 to `num_classes` - 1.
    num_classes: number of classes, k.
    image_shape: (h, w), or (h, w, c) of coloured images, with p values in all; None where examples
      are not images.
    names: name of each class.
    credit: a sentence that says whose the examples are, for the pages; empty where nobody's.
    drawn: whether a program drew them, so that they show nobody and nothing.
    notes: what the loader has to tell of what it read, a sentence each: files that were passed
      over, images that were resized.

  Example:
    >>> inputs = np.zeros((4, 6), np.float32)
    >>> two = Dataset(inputs, np.array([0, 0, 1, 1]), 2, (2, 3), ("cat", "dog"))
    >>> two.inputs[two.labels == 1].reshape(-1, *two.image_shape).shape
    (2, 2, 3)
  """

  inputs: Float[np.ndarray, "n p"]
  labels: Int[np.ndarray, " n"]
  num_classes: int
  image_shape: tuple[int, ...] | None
  names: tuple[str, ...]
  credit: str = ""
  drawn: bool = False
  notes: tuple[str, ...] = ()

  def __repr__(self) -> str:
    """One line, as `Dataset(400 images of 112 x 92, 40 classes)`."""
    if self.image_shape is None:
      what = f"examples of {self.inputs.shape[-1]} features"
    else:
      what = f"images of {' x '.join(map(str, self.image_shape))}"
    drawn = ", drawn by a program" if self.drawn else ""
    return f"Dataset({len(self.inputs)} {what}, {self.num_classes} classes{drawn})"


class TrainTest(NamedTuple):
  """A data set that comes divided: the same classes and image shape in both.

  Attributes:
    train: examples to train on.
    test: examples that nobody trains on.
  """

  train: Dataset
  test: Dataset


class Svd(NamedTuple):
  """The singular value decomposition of examples: left @ diag(values) @ right.

  Attributes:
    left: orthonormal columns.
    values: singular values, all above 0.
    right: orthonormal rows.
  """

  left: Float[Array, "n r"]
  values: Float[Array, " r"]
  right: Float[Array, "r p"]


class Rotation(NamedTuple):
  """Orthonormal coordinates of the span of examples: inputs = coordinates @ basis.

  Attributes:
    coordinates: of the examples.
    basis: orthonormal rows.
  """

  coordinates: Float[Array, "n r"]
  basis: Float[Array, "r p"]


class Data(NamedTuple):
  """What a compiled program sees of a data set: all examples, and one seed's split of them.

  Attributes:
    inputs: all examples.
    labels: class of each.
    train: indices of the examples trained on.
    holdout: indices of the examples held out, perhaps none.
    keep: how much each example counts in training, 1 for whole and 0 for not at all; None where
      all count whole.
    gram: products of the examples with each other, which `gram` trains from; None elsewhere.
    pixel_gram: the same of the examples less their means over the pixels, see `projection`; None
      where nobody looks.
    pixel_means: these means, likewise.
    cosines: the cosine transforms of the examples, see `attacks.filtered.cosine_transform`; None
      where nobody looks.
    components: principal components of the examples, for attackers that know some of them; see
      `attacks.filtered.components`. None where no attack needs them.
    svd: of all examples, where it is looked for what each left in the weights, see
      `attacks.traces`; None elsewhere.
    rotation: of all examples, in which `private_span` trains; None elsewhere.
  """

  inputs: Float[Array, "n p"]
  labels: Int[Array, " n"]
  train: Int[Array, " m"]
  holdout: Int[Array, " o"]
  keep: Float[Array, " n"] | None = None
  gram: Float[Array, "n n"] | None = None
  pixel_gram: Float[Array, "n n"] | None = None
  pixel_means: Float[Array, " n"] | None = None
  cosines: Float[Array, "n p"] | None = None
  components: Float[Array, "2 r p"] | None = None
  svd: Svd | None = None
  rotation: Rotation | None = None


class Hyper(NamedTuple):
  """The hyperparameters of one run that can vary without compiling anew.

  Scalars for one model; with a leading axis when mapped over runs.

  Attributes:
    learning_rate: step size.
    momentum: decay of the velocity (momentum, nesterov), or of the first moment (adam, adamw).
    weight_decay: L2 coefficient; coupled (added to the gradient), but for adamw decoupled.
    init_scale: factor on the initial parameters.
    label_smoothing: share of the target taken from the true class and spread over all classes.
    clip_norm: largest global norm of a gradient; infinite for no clipping.
    steps: steps after which the model stands still: early stopping; infinite for never.
    input_noise: standard deviation of the Gaussian noise added to the inputs of each step, in the
      inputs' unit.
    dropout: share of the inputs of every layer that each step drops.
    dp_clip: largest norm of one example's gradient, in DP-SGD; infinite for no DP-SGD.
    dp_noise: standard deviation of DP-SGD's noise, in units of `dp_clip`.
    release_noise: standard deviation of the Gaussian noise added to the parameters when they are
      released, in units of each array's root mean square.
    release_bits: bits that each released parameter is rounded to; infinite for no rounding.

  Example:
    >>> Hyper(learning_rate=0.01)._replace(weight_decay=0.1).weight_decay
    0.1
  """

  learning_rate: Any = 0.1
  momentum: Any = 0.9
  weight_decay: Any = 0.0
  init_scale: Any = 1.0
  label_smoothing: Any = 0.0
  clip_norm: Any = float("inf")
  steps: Any = float("inf")
  input_noise: Any = 0.0
  dropout: Any = 0.0
  dp_clip: Any = float("inf")
  dp_noise: Any = 0.0
  release_noise: Any = 0.0
  release_bits: Any = float("inf")

  def __repr__(self) -> str:
    """Only what differs from the defaults, as `Hyper(learning_rate=0.5)`."""
    default = self._field_defaults
    changed = {
      name: value
      for name, value in self._asdict().items()
      if not np.isscalar(value) or value != default[name]
    }
    return f"Hyper({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


class RobustHyper(NamedTuple):
  """The hyperparameters of one adversarially trained run that can vary without compiling anew.

  Attributes:
    base: of the optimiser and the loss.
    radius: of the ball in which the adversary may move an image, in the inputs' unit.
  """

  base: Hyper
  radius: Any = 0.0


AnyHyper = Hyper | RobustHyper


class Snapshot(NamedTuple):
  """A model as it was earlier.

  Attributes:
    params: what its engine kept then in place of parameters: `TrainState.params`.
    step: the step it was at. The same for all runs of a group, and never mapped.
  """

  params: Params
  step: Int[Array, ""]


class TrainState(NamedTuple):
  """What one model carries from step to step; it fixes the model's whole future.

  Attributes:
    params: the model's parameters, in whatever form its engine keeps them.
    opt_state: the optimiser's state.
    step: number of steps taken. The same for all runs of a group, and never mapped.
    key: source of this run's randomness: half of it starts the model, and step t draws from
      `fold_in(other half, t)`.
    order: this epoch's order of the training examples (indices into the data set).
    collections: what a model carries beside its parameters, by Flax's name, as the running
      statistics of batch normalisation; most models carry nothing.
  """

  params: Params
  opt_state: OptState
  step: Int[Array, ""]
  key: PRNGKey
  order: Int[Array, " m"]
  collections: Params = {}  # noqa: RUF012, as nobody changes it.


class Trained(NamedTuple):
  """One model after some training, and all that is needed to look at it; mapped, a group of them.

  Attributes:
    first: `TrainState.params` before the first step.
    state: its state.
    data: examples, and the split it was trained on.
    hyper: its hyperparameters; None where releases are not altered.
    earlier: the model as it was released before, where the attacker has that too.
  """

  first: Params
  state: TrainState
  data: Data
  hyper: AnyHyper | None = None
  earlier: Snapshot | None = None


class Stream(Enum):
  """Every random stream: of whose key it is drawn, and the label that is folded in.

  A seed's key is `fold_in(root, seed)`; its TRAIN stream is the run's key, half of which starts
  the model while the other half orders the batches. No two streams of one key share a label.
  """

  SPLIT = ("seed", 0)  # Which examples are held out.
  TRAIN = ("seed", 1)  # The run's key: `TrainState.key`.
  HALF = ("seed", 2)  # Which half of its split a control model is trained on.
  LABELS = ("seed", 3)  # Labels dealt out anew.
  ATTACKER = ("seed", 4)  # Starts and noise of whoever inverts the model.
  POINTS = ("toy", 2)  # The toy's points; it has no halves, nor have networks.
  ROBUSTNESS = ("network", 2)  # The attack that measures robust accuracy.
  STEP_NOISE = ("run", 2)  # Dropout, noise on inputs, DP-SGD, an adversary's starts.
  RELEASE_NOISE = ("run", 3)  # Noise added on release.
  UNSEEN_NOISE = ("run", 4)  # DP-SGD's noise outside of the span of the examples.

  @property
  def label(self) -> int:
    """What is folded into the key."""
    return self.value[1]

  def of(self, key: PRNGKey) -> PRNGKey:
    """The stream's own key."""
    return jax.random.fold_in(key, self.label)


class Info(NamedTuple):
  """What one step lets people look at.

  Attributes:
    loss: mean training objective over the batch, before the step.
  """

  loss: Float[Array, ""]


class Record(NamedTuple):
  """What is measured of one model between chunks of steps.

  Attributes:
    train_loss: mean loss over the training split, without smoothing or decay.
    train_accuracy: share of the training split classified right.
    holdout_accuracy: the same of the examples held out; NaN where there are none.
    finite: whether this loss and all parameters are finite.
  """

  train_loss: Float[Array, "*s"]
  train_accuracy: Float[Array, "*s"]
  holdout_accuracy: Float[Array, "*s"]
  finite: Bool[Array, "*s"]


class Release(NamedTuple):
  """What an attacker holds.

  Attributes:
    params: the parameters of the released model.
    init_params: its initial parameters, where the attacker knows them.
    peers: parameters with a leading axis s, of models trained on the same people from other
      seeds, where the attacker has them.
    previous_params: the parameters of an earlier release of the same model, where the attacker
      has them.
    others: principal components of other people's photographs, where the attacker has some; see
      `attacks.filtered.components`.

  Example:
    >>> weights = {"kernel": np.ones((6, 2))}  # Any pytree; images of 6 pixels, 2 classes.
    >>> Release(weights, init_params={"kernel": np.zeros((6, 2))}).peers is None
    True
  """

  params: Params
  init_params: Params | None = None
  peers: Params | None = None
  previous_params: Params | None = None
  others: Float[Array, "2 r p"] | None = None

  def __repr__(self) -> str:
    """What is held, as `Release(params, init_params)`; not the numbers."""
    return f"Release({', '.join(k for k, v in self._asdict().items() if v is not None)})"


class References(NamedTuple):
  """Images that the audited model may have been trained on, and those of others.

  Attributes:
    images: in 0..255.
    person: whose each image is, an index into `people`.
    people: names, in natural order; each image is a person of its own where they came in one pool.
    files: where each image came from, relative to the folder.
    grouped: whether there was one sub-folder a class.
    notes: what a reader should know: resized images, files passed over.
    ordered: whether the people are known to stand in the order of the model's classes.
  """

  images: Float[np.ndarray, "n h w c"]
  person: Int[np.ndarray, " n"]
  people: tuple[str, ...]
  files: tuple[str, ...]
  grouped: bool
  notes: tuple[str, ...] = ()
  ordered: bool = False
