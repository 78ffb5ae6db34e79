"""Compiled programs are kept on the disk, so that the second start of a program is quick."""

from pathlib import Path

import jax
import pooch

_QUICKEST, _JAX_DEFAULT = 0.05, 1.0  # Seconds to compile, of the programs that are kept.


def use_cache(folder: str | Path | None = None) -> None:
  """Lets JAX keep compiled programs in a folder.

  Args:
    folder: where; none are kept where it is empty; if None, where JAX's own setting says
      (`JAX_COMPILATION_CACHE_DIR`), else the user's cache folder.
  """
  if folder is None:
    folder = jax.config.jax_compilation_cache_dir or Path(pooch.os_cache("jaxinv")) / "compiled"
  jax.config.update("jax_compilation_cache_dir", str(folder) or None)
  if jax.config.jax_persistent_cache_min_compile_time_secs == _JAX_DEFAULT:
    # Most of the many programs of a run are small, and together take longer than the large ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _QUICKEST)
