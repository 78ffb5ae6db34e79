"""The folder of compiled programs: JAX's own setting counts, then the user's cache folder."""

import jax
import pytest

from jaxinv.ensemble.compilation import use_cache


@pytest.fixture(autouse=True)
def same_settings():
  """Leaves JAX's settings as they were."""
  before = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update("jax_compilation_cache_dir", before)


def test_a_folder_that_is_set_already_is_kept(tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  use_cache()
  assert jax.config.jax_compilation_cache_dir == str(tmp_path)


def test_else_it_is_the_users_cache_folder():
  jax.config.update("jax_compilation_cache_dir", None)
  use_cache()
  assert jax.config.jax_compilation_cache_dir.endswith("compiled")


def test_none_where_the_name_is_empty_and_a_given_one_else(tmp_path):
  use_cache("")
  assert jax.config.jax_compilation_cache_dir is None
  use_cache(tmp_path)
  assert jax.config.jax_compilation_cache_dir == str(tmp_path)
