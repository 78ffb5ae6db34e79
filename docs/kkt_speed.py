"""How many restarts of KKT reconstruction a minute: mapped in one program, and one after another.

  python -m launch.photographs --dataset=folder:DATA/att_faces --resolution=24 --photographs=20 \
      --hidden=200 --batch_size=0 --steps=30000 --out_dir=RUN \
      --arm=decay:optimizer=sgd,learning_rate=0.1,weight_decay=0.002
  python docs/kkt_speed.py RUN decay 20 [devices]

Three ways, in turn and in both orders: all restarts in one program, four side by side on each
device; the same program on one restart after another; and as it is usually written, one restart
after another with a derivative of a derivative. Rates of products are counted for what each way has
to compute at the least, and are held against those of a product of two matrices of 1,024 rows.
"""

import itertools
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.single import equation, kkt
from jaxinv.ensemble.mapping import over_devices
from jaxinv.models.params import find_layers, unflatten

STEPS, RESTARTS, ROUNDS = 200, 16, 4


def read_problem(folder, arm, number):
  """The first model's equation, with two candidates a photograph, and their pixels."""
  arrays = np.load(f"{folder}/weights/{arm}.npz")
  start = f"{number}/params/"
  params = {k.removeprefix(start): v[0] for k, v in arrays.items() if k.startswith(start)}
  num_classes, num_features = arrays[f"{number}/weights"].shape[1:]
  layers = find_layers(unflatten(params), num_features, num_classes)
  labels = jnp.arange(2 * int(number)) % num_classes
  return equation.Problem(jax.tree.map(jnp.asarray, layers), labels), num_features


@jax.custom_jvp
def smooth(outputs, sharpness):
  """ReLU whose derivative is a sigmoid."""
  del sharpness
  return jnp.maximum(outputs, 0.0)


@smooth.defjvp
def _(primals, tangents):
  return smooth(*primals), jax.nn.sigmoid(primals[1] * primals[0]) * tangents[0]


def twice_differentiated(problem, images, multipliers, sharpness, rivalry):
  """The distance as it is usually written: the sum of gradients is made, by jax.grad."""

  def margins(layers):
    values = images
    for layer in layers[:-1]:
      values = smooth(values @ layer.kernel + layer.bias, sharpness)
    logits = values @ layers[-1].kernel + layers[-1].bias
    sides = jax.lax.stop_gradient(equation._margins(logits, problem.labels, rivalry))
    return (multipliers[:, None] * sides * logits).sum()

  over = jax.tree.map(lambda a, b: a - b, problem.layers, jax.grad(margins)(problem.layers))
  total = sum(jnp.square(x).sum() for x in jax.tree.leaves(over))
  return total / sum(jnp.square(x).sum() for x in jax.tree.leaves(problem.layers))


def operations(problem, num_features):
  """Of a step of one restart in its products: twice the multiplications, by hand."""
  n, first = len(problem.labels), problem.layers[0].kernel
  thin = isinstance(first, equation.Thin)
  widths = [layer.kernel.shape[1] for layer in problem.layers[1:]]
  widths = [first.right.shape[1] if thin else first.shape[1], *widths]
  rank = first.left.shape[1] if thin else 0
  large = rank * (num_features + widths[0]) if thin else num_features * widths[0]
  count = 2 * n * large + 2 * n * n * num_features
  count += sum(4 * n * a * b for a, b in itertools.pairwise(widths))
  return 2 * (count + sum(4 * n * n * width for width in widths))


def main(folder, arm, number, devices="1"):
  """Measures and prints."""
  jax.config.update("jax_num_cpu_devices", int(devices))
  problem, num_features = read_problem(folder, arm, number)
  thinner = equation.thin(problem)
  starts = jnp.full((len(problem.labels), num_features), 0.5)
  sweep = kkt.draw_sweep(jax.random.key(0), RESTARTS, rivalry=1.0)
  keys = jax.random.split(jax.random.key(1), RESTARTS)

  def every(problem, sweep, keys):
    return kkt.search(problem, sweep, keys, starts, STEPS, 4)

  def alone(problem, sweep, keys):
    return kkt._search(problem, starts, STEPS, kkt.ADAM, sweep, keys)

  mapped = jax.jit(over_devices(every, (None, 0, 0), 0, jax.local_devices()))
  one, usual = jax.jit(alone), jax.jit(partial(alone))

  def in_turn(function, problem, count=4):
    for i in range(count):
      jax.block_until_ready(function(problem, jax.tree.map(lambda x, i=i: x[i], sweep), keys[i]))

  def traced_usual():
    kkt.distance = twice_differentiated
    in_turn(usual, problem, 1)
    kkt.distance = equation.distance

  traced_usual()
  ways = {
    "mapped": (lambda: jax.block_until_ready(mapped(thinner, sweep, keys)), RESTARTS, thinner),
    "one after another": (lambda: in_turn(one, thinner), 4, thinner),
    "usual, one after another": (lambda: in_turn(usual, problem), 4, problem),
  }
  for run, _, _ in ways.values():
    run()
  square = jnp.asarray(np.random.default_rng(0).normal(size=(1024, 1024)), jnp.float32)
  multiply = jax.jit(lambda a: a @ a)
  multiply(square)
  seconds, peak = {name: [] for name in ways}, 0.0
  for turn in range(ROUNDS):
    for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
      started = time.perf_counter()
      ways[name][0]()
      seconds[name].append((time.perf_counter() - started) / ways[name][1])
      started = time.perf_counter()
      multiply(square).block_until_ready()
      peak = max(peak, 2 * 1024**3 / (time.perf_counter() - started))
  print(f"{devices} devices, products at {peak / 1e9:.0f} GFLOP/s")
  base = np.median(seconds["one after another"])
  for name, found in seconds.items():
    middle = np.median(found)
    rate = operations(ways[name][2], num_features) * STEPS / middle
    low, middle, high = (1e6 * value / STEPS for value in (min(found), middle, max(found)))
    minute = 60e6 / (4000 * middle)
    print(f"{name}: {middle:.0f} us a step ({low:.0f} to {high:.0f})", end=", ")
    print(f"{minute:.0f} restarts of 4,000 steps a minute", end=", ")
    print(f"{1e6 * base / STEPS / middle:.2f} x, {rate / peak:.2f} of the product rate")


if __name__ == "__main__":
  main(*sys.argv[1:])
