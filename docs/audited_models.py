"""Trains the models of README's table of audits by other tools, saves them by these, audits them.

  python docs/audited_models.py FOLDER

Needs the AT&T faces (the environment variable JAXINV_DATA), PyTorch, scikit-learn and safetensors:
`pip install -e '.[test,peers]'`. Writes the models, their photographs and the audits into FOLDER;
takes about two minutes.
"""

import os
import subprocess
import sys
from pathlib import Path

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import jaxinv


def save_photographs(folder: Path, images: np.ndarray, names: list[str]) -> None:
  """Writes images in 0..255 as PNGs, one sub-folder a name."""
  for i, (image, name) in enumerate(zip(images, names, strict=True)):
    (folder / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.round().astype(np.uint8)).save(folder / name / f"{i}.png")


def train_torch(net: torch.nn.Module, inputs, labels, steps: int, optimizer) -> None:
  """Trains a PyTorch model on batches of 32."""
  x, y = torch.tensor(inputs), torch.tensor(labels, dtype=torch.long)
  for _ in range(steps):
    batch = torch.randint(0, len(x), (32,))
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
    optimizer.step()


def train_flax(inputs, labels, steps: int = 1200):
  """Trains a Flax MLP of 64 units; returns its variables."""
  inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
  model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(40)])
  variables = model.init(jax.random.key(0), inputs[:1])
  optimizer = optax.adam(1e-4)

  @jax.jit
  def step(variables, state, key):
    batch = jax.random.randint(key, (32,), 0, len(inputs))

    def loss(variables):
      logits = model.apply(variables, inputs[batch])
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

    updates, state = optimizer.update(jax.grad(loss)(variables), state)
    return optax.apply_updates(variables, updates), state

  state = optimizer.init(variables)
  for i in range(steps):
    variables, state = step(variables, state, jax.random.key(i))
  return variables


def main(folder: Path) -> None:
  """Makes the models, then runs launch.audit on each."""
  folder.mkdir(parents=True, exist_ok=True)
  faces = jaxinv.load_att(Path(os.environ["JAXINV_DATA"]))
  inputs, labels = np.asarray(faces.inputs), np.asarray(faces.labels)
  pixels = 255 * inputs.reshape(-1, *faces.image_shape)
  half = labels < 20
  for name, which in (("people", half | True), ("others", ~half)):
    people = [faces.names[label] for label in labels[which]]
    save_photographs(folder / name, pixels[which], people)
  torch.manual_seed(0)
  linear = torch.nn.Linear(inputs.shape[1], 40)
  torch.save(linear.state_dict(), folder / "linear_init.pt")
  train_torch(linear, inputs, labels, 500, torch.optim.SGD(linear.parameters(), 0.1))
  torch.save(linear.state_dict(), folder / "linear.pt")
  save_file(linear.state_dict(), folder / "linear.safetensors")
  some = torch.nn.Linear(inputs.shape[1], 20)
  train_torch(some, inputs[half], labels[half], 500, torch.optim.SGD(some.parameters(), 0.1))
  torch.save(some.state_dict(), folder / "twenty.pt")
  layers = (torch.nn.Linear(inputs.shape[1], 128), torch.nn.ReLU(), torch.nn.Linear(128, 40))
  mlp = torch.nn.Sequential(*layers)
  train_torch(mlp, inputs, labels, 800, torch.optim.Adam(mlp.parameters(), 2e-4))
  torch.save(mlp.state_dict(), folder / "mlp.pt")
  (folder / "flax.msgpack").write_bytes(flax.serialization.to_bytes(train_flax(inputs, labels)))
  digits = load_digits()
  model = LogisticRegression(max_iter=300).fit(digits.data / 16, digits.target)
  np.savez(folder / "digits.npz", coef_=model.coef_, intercept_=model.intercept_)
  save_photographs(folder / "digits", 15.9 * digits.images[:300], digits.target[:300].astype(str))

  audits = [(name, "112,92", "people") for name in ("linear.pt", "linear.safetensors")]
  audits += [("linear_init.pt", "112,92", "people"), ("twenty.pt", "112,92", "others")]
  audits += [("mlp.pt", "112,92", "people"), ("flax.msgpack", "112,92", "people")]
  for name, shape, reference in [*audits, ("digits.npz", "8,8", "digits")]:
    print(f"\n{name}", flush=True)
    command = [sys.executable, "-m", "launch.audit", f"--weights={folder / name}"]
    command += [f"--image_shape={shape}", f"--reference={folder / reference}", "--overwrite"]
    subprocess.run([*command, f"--out_dir={folder / 'audits' / name}"], check=True)


if __name__ == "__main__":
  if len(sys.argv) != 2 or "JAXINV_DATA" not in os.environ:
    sys.exit("give one folder to write to, and the faces' folder as JAXINV_DATA")
  main(Path(sys.argv[1]))
