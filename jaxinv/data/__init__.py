"""Data sets by name."""

# Names that `--dataset` takes; the command says which of them it can use.
DATASETS = ("synthetic_faces", "att", "gaussians")
