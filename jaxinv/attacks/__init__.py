"""What an attacker holds -> images. `DEFAULT` and `ALL` are values; any `Attack` may join them."""

from jaxinv.attacks.attack import (
  ALL,
  DEFAULT,
  Attack,
  class_centred,
  denoised,
  denoised_diff,
  denoised_others,
  denoised_seed_mean,
  init_diff,
  mi_face,
  recover,
  reshape,
  seed_mean,
  update_ratio,
)

__all__ = [
  "ALL",
  "DEFAULT",
  "Attack",
  "class_centred",
  "denoised",
  "denoised_diff",
  "denoised_others",
  "denoised_seed_mean",
  "init_diff",
  "mi_face",
  "recover",
  "reshape",
  "seed_mean",
  "update_ratio",
]
