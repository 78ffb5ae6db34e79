"""Attacks that give single training examples, not an image a class."""
