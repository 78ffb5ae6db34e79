"""An animation of one face that appears in the weights, step by step."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxinv.experiments.outcome import ArmOutcome, Outcome
from jaxinv.runs.files import write_file


def write_animation(path: Path, outcome: Outcome, target: Float[np.ndarray, "h w *c"]) -> None:
  """An animated GIF of one person's face appearing in the weights, arm by arm.

  The upper row is the weights as they are, the lower one what training changed in them.

  Args:
    path: where to write.
    outcome: of the experiment.
    target: the person's class average, in 0..255, shown at the left.
  """
  # More frames, or more greys, take megabytes (noise cannot be compressed) and look no better.
  chosen = np.unique(np.linspace(0, len(outcome.steps) - 1, 31).astype(int))
  frames = [_frame(outcome, target, int(i)) for i in chosen]
  waits = [160] * (len(frames) - 1) + [2500]
  first, *others = frames
  write_file(
    path,
    lambda file: first.save(
      file, format="GIF", save_all=True, append_images=others, duration=waits, loop=0
    ),
  )


def _frame(outcome: Outcome, target: Float[np.ndarray, "h w *c"], index: int) -> Image.Image:
  height, width = target.shape[:2]
  scale = max(1, round(112 / height))
  cell = (width * scale + 8, height * scale + 8)
  top, side = 40, 54
  size = (side + cell[0] * (len(outcome.arms) + 1), top + 2 * cell[1])
  canvas = Image.new("L" if target.ndim == 2 else "RGB", size, "white")
  draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
  draw.text((side, 3), f"step {outcome.steps[index]}", "black", font)
  for row, word in enumerate(("W", "W - W0")):
    draw.text((4, top + row * cell[1] + cell[1] // 2 - 8), word, "black", font)
  _paste(canvas, target, (side, top), scale)
  draw.text((side, 21), "average", "black", font)
  for i, (name, arm) in enumerate(outcome.arms.items()):
    x = side + cell[0] * (i + 1)
    draw.text((x, 3), name, "black", font)
    accuracy = arm.history["train_accuracy"][0, index]
    draw.text((x, 21), f"acc {accuracy:.2f}" if np.isfinite(accuracy) else "", "black", font)
    for row, image in enumerate(_weights_now(arm, index, target.shape)):
      _paste(canvas, image, (x, top + row * cell[1]), scale)
  return canvas.quantize(32 if target.ndim == 2 else 128, dither=Image.Dither.NONE)


def _weights_now(
  arm: ArmOutcome, index: int, shape: tuple[int, ...]
) -> list[Float[np.ndarray, "h w *c"]]:
  """One class's weights at a recorded step, and their change since the start, each in 0..255."""
  now, start = arm.frames[index], arm.frames[0]
  return [min_max(image).reshape(shape) for image in (now, now - start)]


def min_max(image: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
  """An image in 0..255 by its own range; grey where it is constant, black where not finite."""
  image = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
  span = float(image.max()) - float(image.min())
  return (image - image.min()) / span * 255 if span > 0 else np.full_like(image, 127.0)


def _paste(canvas: Image.Image, image, place: tuple[int, int], scale: int) -> None:
  if image.ndim == 3 and image.shape[-1] != 3:
    image = image.mean(-1)  # Grey of its one channel, as in the figures.
  picture: UInt8[np.ndarray, "h w *c"] = np.clip(image, 0, 255).astype(np.uint8)
  size = (picture.shape[1] * scale, picture.shape[0] * scale)
  canvas.paste(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC), place)
