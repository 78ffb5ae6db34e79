"""Weights that others have trained, read from their tools' files; nothing is unpickled."""
