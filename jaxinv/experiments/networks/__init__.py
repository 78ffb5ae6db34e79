"""launch.cifar: deep networks, inverted."""
