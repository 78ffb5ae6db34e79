"""A Flax module and an optimiser of one's own: what does an MLP with tanh give away?

On the command line: --model=examples.own_model:TanhMLP
--arm='lion:optimizer=examples.own_model:lion,learning_rate=1e-4'
"""

import flax.linen as nn
import optax

import jaxinv


class TanhMLP(nn.Module):
  """From inputs [b, p] to logits [b, k]."""

  num_classes: int

  @nn.compact
  def __call__(self, inputs):
    """One hidden layer of 24 units."""
    return nn.Dense(self.num_classes)(nn.tanh(nn.Dense(24)(inputs)))


def lion(hyper):
  """From hyperparameters, which may be traced, to an optax transformation."""
  return optax.lion(hyper.learning_rate)


if __name__ == "__main__":
  people = jaxinv.synthetic_faces(num_people=6, images_per_person=8)
  arms = (
    jaxinv.Arm("sgd", "sgd", jaxinv.Hyper(learning_rate=0.1)),
    jaxinv.Arm("lion", lion, jaxinv.Hyper(learning_rate=1e-4)),
  )
  settings = jaxinv.Settings(arms, num_seeds=4, steps=150, model=TanhMLP(people.num_classes))
  for arm, table in jaxinv.summarize(jaxinv.run(settings, people)).items():
    accuracy, seen = table["model"]["train_accuracy"], table["init_diff"]["ncc_centred"]
    print(f"{arm:5} train accuracy {accuracy['mean']:.2f}, W - W0 shows {seen['mean']:.3f}")
