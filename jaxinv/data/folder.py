"""Images from a folder: one sub-folder a person, or one pool of images.

What is in the folder is not trusted: a link is not followed, an image is no larger than Pillow's
limit against decompression bombs, and an image that cannot be read is told by its name.
"""

import os
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.data.fetch import explained, natural_pieces, shown
from jaxinv.errors import InputError
from jaxinv.types import Dataset, References

# How an image's file ends. What it holds is found by its content, in any of FORMATS.
_IMAGE = re.compile(
  r".+\.(a?png|jpe?g?|jfif|p[bgnp]m|bmp|dib|gif|tiff?|webp)$", re.IGNORECASE | re.DOTALL
)
FORMATS = ("PNG", "JPEG", "PPM", "BMP", "DIB", "GIF", "TIFF", "WEBP")
MAX_IMAGES = 100_000
MAX_TOTAL_BYTES = 4 * 2**30  # Of the images as they are returned.

_HIDDEN = re.compile(r"\.|__MACOSX$")
_WHOLE = "put a whole image of 8 or 16 bits in its place, or remove it"
_LAYOUT = "give a folder with one sub-folder of images a person, or one of images"
_WORDS = {
  "other": "without an image's ending",
  "hidden": "hidden",
  "link": "symbolic links",
  "deep": "folders further down",
}


class _Listing(NamedTuple):
  """What one folder holds.

  Attributes:
    images: names of the images, in natural order.
    folders: names of its sub-folders, likewise.
    passed: what is neither: (kind, name).
  """

  images: list[str]
  folders: list[str]
  passed: list[tuple[str, str]]


def load_references(folder: Path, image_shape: tuple[int, int, int]) -> References:
  """Loads images of people to compare recovered images with.

  A person is a sub-folder with images in it; where there is none, each image of the folder is a
  person of its own. PNG, JPEG, PGM, PPM, BMP, GIF, TIFF and WebP are read: the first frame, turned
  as its EXIF orientation says, what is transparent in white, 16 bits scaled to 0..255, colours made
  grey (ITU-R 601) or grey made colours, and resized with antialiasing (bicubic) where another size
  is wanted. Passed over, and told in `notes`: what is hidden, files without an image's ending,
  symbolic links (they may lead anywhere, or show one image twice), and what lies deeper.

  Args:
    folder: where the images are.
    image_shape: (h, w, c), with c = 1 for grey or 3 for red, green, blue.

  Returns:
    The images, float32 in 0..255, person by person in natural order (s2 before s10).

  Raises:
    InputError: there is no such folder or no image in it, it has images and sub-folders with images
      side by side, it or one of its images cannot be read, or there is more than `MAX_IMAGES` or
      `MAX_TOTAL_BYTES`.

  Example:
    >>> import pathlib, tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> folder = pathlib.Path(temporary.name)
    >>> for person in ("ann", "bob"):
    ...   (folder / person).mkdir()
    ...   _ = (folder / person / "1.pgm").write_bytes(b"P5 3 2 255 " + bytes(range(6)))
    >>> references = load_references(folder, (2, 3, 1))
    >>> references.people, references.images.shape
    (('ann', 'bob'), (2, 2, 3, 1))
  """
  folder = Path(folder)
  _check_shape(image_shape)
  people, empty, notes = _list_people(folder)
  notes += [f"no images in {_some(empty, 'sub-folder')}"] if empty else []
  grouped = None not in people
  paths = [Path(person or "", name) for person, names in people.items() for name in names]
  labels = [i for i, names in enumerate(people.values()) for _ in names]
  if len(paths) * np.prod(image_shape, dtype=float) * 4 > MAX_TOTAL_BYTES:
    size = "x".join(map(str, image_shape))
    raise InputError(
      f"{len(paths)} images of {size} in {shown(folder)} are over {MAX_TOTAL_BYTES} bytes: "
      "give fewer"
    )
  images = np.empty((len(paths), *image_shape), np.float32)
  sizes: Counter[tuple[int, int]] = Counter()
  for row, path in zip(images, paths, strict=True):
    row[:], size = _read_image(folder / path, image_shape)
    sizes[size] += 1
  names = people if grouped else people[None]
  return References(
    images=images,
    person=np.array(labels if grouped else range(len(paths)), np.int32),
    people=tuple(map(shown, names)),
    files=tuple(shown(path.as_posix()) for path in paths),
    grouped=grouped,
    notes=(*notes, *_resize_note(sizes, image_shape)),
  )


def load_folder(folder: str | os.PathLike, resolution: tuple[int, int] | None = None) -> Dataset:
  """Loads a data set from a folder with one sub-folder of images a class.

  Images are read as by `load_references`; all are grey where every one of them is.

  Args:
    folder: where the sub-folders are.
    resolution: (h, w) in pixels to resize all images to; None where they have one size.

  Returns:
    The images in [0, 1], [h, w] or [h, w, 3]; a class is a sub-folder, in natural order, s2 before
    s10. Files that were passed over and images that were resized are told in `notes`.

  Raises:
    InputError: there are fewer than two classes, a class has no image, images differ in size and no
      resolution is given, or `load_references` refuses the folder.

  Example:
    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("cats", "dogs"):
    ...   (root / name).mkdir()
    ...   Image.new("RGB", (6, 4), "red").save(root / name / "1.png")
    >>> load_folder(root)
    Dataset(2 images of 4 x 6 x 3, 2 classes)
  """
  folder = Path(folder).expanduser()
  where, layout = shown(folder), "give a folder with one sub-folder of images a class"
  people, empty, _ = _list_people(folder)
  if None in people or len(people) + len(empty) < 2:
    have = "images, and no sub-folders of them" if None in people else "one sub-folder only"
    raise InputError(f"{where} has {have}: {layout}, two or more")
  if empty:
    raise InputError(
      f"{where} has no images in {_some(empty, 'sub-folder')}: add some or remove it"
    )
  shape = resolution or _common_size(
    [folder / k / name for k, names in people.items() for name in names]
  )
  found = load_references(folder, (*shape, 3))
  images = found.images / np.float32(255)
  if (images == images[..., :1]).all():
    images = images[..., 0]
  inputs = images.reshape(len(images), -1)
  names = found.people
  return Dataset(inputs, found.person, len(names), images.shape[1:], names, notes=found.notes)


def _common_size(paths: list[Path]) -> tuple[int, int]:
  """The height and width of images that are all of one size, by their headers alone."""
  first = _read_size(paths[0])
  for path in paths[1:]:
    if (size := _read_size(path)) != first:
      sizes = (f"{shown(it)} is {h} x {w}" for it, (h, w) in ((paths[0], first), (path, size)))
      raise InputError(f"images differ in size: {' and '.join(sizes)}: give --resolution=H,W")
  return first


def _read_size(path: Path) -> tuple[int, int]:
  """An image's height and width, turned as its EXIF orientation says."""
  from PIL import ExifTags, Image

  with warnings.catch_warnings(), explained(f"read {path}", _WHOLE, (Exception,)):
    warnings.simplefilter("ignore")
    with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
      is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
      return image.size if is_turned else image.size[::-1]


def _natural_key(name: str) -> tuple[Any, ...]:
  return natural_pieces(name), name


def _check_shape(image_shape: tuple[int, int, int]) -> None:
  """Raises InputError unless images of this shape can be made."""
  if min(image_shape) < 1 or image_shape[2] not in (1, 3):
    size = "x".join(map(str, image_shape))
    raise InputError(
      f"reference images cannot be made {size}: only height x width x 1 (grey) or 3 (colours)"
    )


def _list_people(folder: Path) -> tuple[dict[str | None, list[str]], list[str], list[str]]:
  """The names of the images by person, or by None in a pool; people without; and what to note."""
  top = _list_folder(folder)
  below, count = {}, len(top.images)
  for name in top.folders:
    below[name] = _list_folder(folder / name)
    count += len(below[name].images)
    _check_count(count, folder)
  people = {name: listing.images for name, listing in below.items() if listing.images}
  empty = [name for name in below if name not in people]
  where = shown(folder)
  if top.images and people:
    raise InputError(
      f"{where} has images and sub-folders with images, as {shown(top.images[0])} and "
      f"{shown(next(iter(people)))}/: {_LAYOUT} alone"
    )
  passed = list(top.passed)
  for person, listing in below.items():
    passed += [(kind, f"{person}/{name}") for kind, name in listing.passed]
    passed += [("deep", f"{person}/{name}") for name in listing.folders]
  if not count:
    seen = f" ({_passed_note(passed)})" if passed else ""
    raise InputError(f"no images in {where} or one folder below it{seen}: {_LAYOUT}")
  notes = [_passed_note(passed)] if passed else []
  return people or {None: top.images}, empty, notes


def _check_count(count: int, folder: Path) -> None:
  """Raises InputError where there is more than can be meant."""
  if count > MAX_IMAGES:
    raise InputError(f"{shown(folder)} has over {MAX_IMAGES} images or other files: give fewer")


def _list_folder(folder: Path) -> _Listing:
  """What one folder holds; no link is followed."""
  listing = _Listing([], [], [])
  with explained(f"read {folder}", _LAYOUT, (Exception,)), os.scandir(folder) as entries:
    for entry in entries:
      if _HIDDEN.match(entry.name):
        listing.passed.append(("hidden", entry.name))
      elif entry.is_symlink():
        listing.passed.append(("link", entry.name))
      elif entry.is_dir():
        listing.folders.append(entry.name)
      # Nor is a pipe an image, whatever its name: reading it would block.
      elif entry.is_file() and _IMAGE.match(entry.name):
        listing.images.append(entry.name)
      else:
        listing.passed.append(("other", entry.name))
      _check_count(max(map(len, listing)), folder)
  for names in listing:
    names.sort(key=lambda it: _natural_key(it if isinstance(it, str) else it[1]))
  return listing


def _read_image(
  path: Path, image_shape: tuple[int, int, int]
) -> tuple[Float[np.ndarray, "h w c"], tuple[int, int]]:
  """Reads one image as it is wanted, and its width and height as they were."""
  from PIL import Image, ImageOps  # A tenth of a second, which only those with images need.

  # A hostile file makes Pillow raise nearly anything.
  with warnings.catch_warnings(), explained(f"read {path}", _WHOLE, (Exception,)):
    warnings.simplefilter("ignore")  # Of odd metadata: the pixels are what counts.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
      image.load()
      upright = ImageOps.exif_transpose(image)
      return _to_array(upright, image_shape), upright.size


def _to_array(image: Any, image_shape: tuple[int, int, int]) -> Float[np.ndarray, "h w c"]:
  """A decoded image in 0..255, of the shape wanted."""
  from PIL import Image

  height, width, channels = image_shape
  if image.mode == "F":
    raise ValueError("its values are floating-point, and which of them is white nobody knows")
  if image.mode.startswith("I"):
    image = _from_16_bits(image)
  else:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
      image = image.convert("RGBA")
      image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
  if image.size != (width, height):
    image = image.resize((width, height), Image.Resampling.BICUBIC)
  values = np.asarray(image, np.float32).reshape(height, width, -1)
  # Bicubic weights go below 0, and only what is made of bytes is cut for it.
  return np.repeat(values, channels // values.shape[2], 2).clip(0, 255)


def _from_16_bits(image: Any) -> Any:
  """A grey image with values in 0..65535, which Pillow would cut at 255, as floats in 0..255."""
  from PIL import Image

  values = np.asarray(image, np.float32)
  if values.min() < 0 or values.max() > 65535:
    raise ValueError("it has values outside of 0..65535")
  return Image.fromarray(values / np.float32(257))


def _passed_note(passed: list[tuple[str, str]]) -> str:
  """How many files were passed over, and why."""
  kinds = {kind: [name for it, name in passed if it == kind] for kind in _WORDS}
  parts = [f"{len(names)} {_WORDS[kind]} ({_few(names)})" for kind, names in kinds.items() if names]
  return f"passed over: {', '.join(parts)}"


def _resize_note(sizes: Counter[tuple[int, int]], image_shape: tuple[int, int, int]) -> list[str]:
  """How many images were resized, where any was."""
  height, width, _ = image_shape
  others = Counter({size: count for size, count in sizes.items() if size != (width, height)})
  if not others:
    return []
  (w, h), most = others.most_common(1)[0]
  stretched = sum(count for (a, b), count in others.items() if abs(a * height - b * width) > a + b)
  note = f"{others.total()} of {sizes.total()} images were resized from "
  note += f"{w} x {h}" if most == others.total() else f"other sizes, most often {w} x {h},"
  note += f" to {width} x {height} pixels"
  return [note + (f", {stretched} of them stretched to other proportions" if stretched else "")]


def _some(names: list[str], noun: str) -> str:
  """`3 sub-folders (a, b, c)`."""
  return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({_few(names)})"


def _few(names: list[str]) -> str:
  """The first three names, and dots where there are more."""
  return ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
