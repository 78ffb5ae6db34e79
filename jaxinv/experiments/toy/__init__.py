"""launch.toy: two Gaussians and one matrix."""
