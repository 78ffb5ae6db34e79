"""A data set by what a user calls it: a name, a folder, a function of the user's own, or itself."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxinv.data.att import download_att, load_att
from jaxinv.data.fetch import cache_dir, data_dir
from jaxinv.data.folder import load_folder
from jaxinv.data.splits import check_dataset
from jaxinv.data.synthetic_faces import synthetic_faces
from jaxinv.errors import InputError, choose, named_object
from jaxinv.types import Dataset


class Options(NamedTuple):
  """How a data set is found, read or drawn; each loader takes what concerns it.

  Attributes:
    data_dir: folder or zip of the AT&T faces; None for `fetch.data_dir()`.
    download: fetch them first.
    seed: decides which faces are drawn.
    num_people: people to draw.
    images_per_person: images of each of them.
    pose: scale of their pose, from 0 to 3.
    max_bytes: most that may be drawn; infinite for any size.
    resolution: (h, w) of a folder's images, which are resized to it; None where all have one size.
  """

  data_dir: str | os.PathLike | None = None
  download: bool = False
  seed: int = 0
  num_people: int = 40
  images_per_person: int = 10
  pose: float = 1.0
  max_bytes: float = float("inf")
  resolution: tuple[int, int] | None = None


_USUAL = Options()


def load(spec: str | Dataset, options: Options = _USUAL, **changed: Any) -> Dataset:
  """Loads the data set that is meant, and checks it.

  Args:
    spec: `synthetic_faces`; `att`; `folder:PATH`, see `load_folder`; `package.module:function` of
      the user's own, which takes no argument and returns a `Dataset`; or a data set itself.
    options: how it is found, read or drawn.
    **changed: fields of `Options` by name, in place of those of `options`.

  Returns:
    The data set, as `check_dataset` wants it. What its reader has to say of it, such as files that
    were passed over, stands in `notes`.

  Raises:
    InputError: there is no such data set, it cannot be had or read, or it is not sound.

  Example:
    >>> import jaxinv
    >>> jaxinv.load("synthetic_faces", num_people=3, images_per_person=2)
    Dataset(6 images of 112 x 92, 3 classes, drawn by a program)
  """
  options = options._replace(**changed)
  if options.download and spec != "att":
    raise InputError(f"--download: {spec} needs no file fetched; give --dataset=att")
  is_folder = isinstance(spec, str) and spec.startswith("folder:")
  if options.resolution and not is_folder:
    raise InputError("--resolution is for --dataset=folder:PATH alone: leave it out")
  if spec == "folder:":
    raise InputError(
      "--dataset: 'folder:' names no folder: give folder:PATH, folder:. for this one"
    )
  if is_folder:
    dataset = load_folder(spec.removeprefix("folder:"), options.resolution)
  elif isinstance(spec, str) and ":" in spec:
    dataset = _load_own(spec)
  elif isinstance(spec, str):
    dataset = choose("--dataset", spec, {**LOADERS, **_FORMS})(options)
  else:
    dataset = spec
  check_dataset(dataset)
  return dataset


def _load_own(spec: str) -> Dataset:
  """What the user's own function returns."""
  function = named_object(spec, "--dataset", Callable)
  try:
    dataset = function()
  except InputError:
    raise
  except Exception as error:  # It may raise anything.
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    raise InputError(f"--dataset: {spec}() failed ({reason}): mend it") from error
  if not isinstance(dataset, Dataset):
    kind = type(dataset).__name__
    raise InputError(f"--dataset: {spec}() returned a {kind}, and must return a jaxinv.Dataset")
  return dataset


def _draw_faces(options: Options) -> Dataset:
  people, images = options.num_people, options.images_per_person
  need = people * images * 112 * 92 * 4
  if need > options.max_bytes:
    raise InputError(
      f"{people} people with {images} images each take {need / 1e9:.0f} GB: "
      "give a smaller --num_people or --images_per_person"
    )
  return synthetic_faces(
    options.seed, num_people=people, images_per_person=images, pose=options.pose
  )


def _load_att(options: Options) -> Dataset:
  if options.download:
    return load_att(download_att(cache_dir()))
  return load_att(data_dir(options.data_dir))


LOADERS = {"synthetic_faces": _draw_faces, "att": _load_att}
# What else can be given; never looked up, as a colon is in both.
_FORMS = dict.fromkeys(("folder:PATH", "package.module:function"), _load_own)
FORMS = (*LOADERS, *_FORMS)
