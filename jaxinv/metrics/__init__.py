"""Measures: pure functions of images, scores and samples."""
