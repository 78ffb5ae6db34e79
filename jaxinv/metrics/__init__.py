"""Measures of images, scores and samples. `DEFAULT` are values; any `Metric` may join them."""

from jaxinv.metrics.metric import (
  ALL,
  DEFAULT,
  Metric,
  Targets,
  excess,
  identification,
  measure,
  ncc,
  ncc_centred,
  psnr,
  ssim,
)

__all__ = [
  "ALL",
  "DEFAULT",
  "Metric",
  "Targets",
  "excess",
  "identification",
  "measure",
  "ncc",
  "ncc_centred",
  "psnr",
  "ssim",
]
