"""PyTorch's .pt and .pth, read by PyTorch's own `weights_only` unpickler, where it is installed.

That unpickler runs no code of the file's, but it calls some functions that a file may misuse to
take memory or time: `bytearray` or a storage of any size. So a file is first looked through,
without unpickling, for what it names: only what dicts of tensors need is let pass.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.auditing.formats.stored import (
  DTYPES,
  MAX_HEADER,
  MAX_NODES,
  Stored,
  flatten,
  printable,
  unsupported,
)
from jaxinv.auditing.formats.zips import open_zip
from jaxinv.errors import InputError

# A number in a pickle of its own, with which files before PyTorch 1.6 begin.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_HARMLESS = re.compile(
  r"collections OrderedDict"
  r"|collections Counter"  # Learning rate schedules hold one.
  r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
  r"|torch(\.cuda)? (?!Untyped|Typed)\w+Storage"
  r"|torch (Size|[a-z]\w*)"  # Types and devices.
)
_INSTALL = (
  "is PyTorch's, which is not installed: pip install torch, or where it is installed convert the "
  'file: python -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous().clone() '
  "for k, v in torch.load('IN.pt', map_location='cpu', weights_only=True).items()}, "
  "'OUT.safetensors')\""
)


def is_pickle(head: bytes) -> bool:
  """Whether a file begins as a pickle of protocol 2 to 5 does."""
  return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def read_zip(path: Path) -> Iterator[tuple[str, Stored]]:
  """The tensors of a file as PyTorch writes it since 1.6; they stay in the file until loaded.

  Raises:
    InputError: PyTorch is not installed, or the file holds more than dicts of tensors.
  """
  archive = open_zip(path)
  for member in archive.infolist():
    if member.compress_size != member.file_size:
      raise InputError(f"{printable(member.filename)} is compressed, as PyTorch's files are not")
    if member.filename.endswith("/data.pkl"):
      if member.file_size > MAX_HEADER:
        raise InputError(f"its {printable(member.filename)} takes {member.file_size:,} bytes")
      _check_globals(io.BytesIO(archive.read(member)))
    if member.filename.endswith("/constants.pkl"):
      raise InputError("is a TorchScript program; save the state_dict() of its model")
  return _read(path, mmap=True)


def read_legacy(path: Path) -> Iterator[tuple[str, Stored]]:
  """The tensors of a file as PyTorch wrote it before 1.6; all are read at once.

  Raises:
    InputError: as above.
  """
  with open(path, "rb") as file:
    for _ in range(5):  # Magic number, protocol, system, the object, the names of its storages.
      _check_globals(file)
  return _read(path, mmap=False)


def _check_globals(file: io.BufferedIOBase) -> None:
  """Reads one pickle's instructions, and none of its objects, up to its end."""
  for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
    if count > 2 * MAX_NODES:
      raise InputError(f"its pickle has more than {2 * MAX_NODES:,} instructions")
    named = argument if instruction.name in ("GLOBAL", "INST") else None
    if named is None and "GLOBAL" not in instruction.name and "EXT" not in instruction.name:
      continue
    if not _HARMLESS.fullmatch(str(named)):
      thing = printable(str(named).replace(" ", "."))
      raise InputError(
        f"holds {thing}, which tensors of the usual types do not need and which may do harm; save "
        "the state_dict() of its model alone"
      )


def _read(path: Path, mmap: bool) -> Iterator[tuple[str, Stored]]:
  try:
    import torch  # Seconds to import, and optional.
  except ImportError as error:
    raise InputError(_INSTALL) from error
  try:
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
  except pickle.UnpicklingError as error:
    # What PyTorch says at length is how to run the file's code.
    raise InputError(
      "is refused by PyTorch's weights_only unpickler; save the state_dict() of its model alone"
    ) from error
  for name, leaf in flatten(loaded if isinstance(loaded, dict | list) else {"array": loaded}):
    if isinstance(leaf, torch.Tensor):
      dtype = DTYPES.get(str(leaf.dtype).removeprefix("torch."))
      if dtype is None:
        raise unsupported(name, leaf.dtype)
      yield name, Stored(tuple(leaf.shape), dtype, partial(_as_numpy, leaf, dtype))


def _as_numpy(tensor: Any, dtype: np.dtype) -> np.ndarray:
  import torch

  tensor = tensor.detach().resolve_conj().resolve_neg()
  if dtype == DTYPES["bfloat16"]:  # Which numpy does not know by itself.
    return tensor.view(torch.int16).numpy().view(dtype)
  return tensor.numpy()
