"""The experiments, one folder a command."""
