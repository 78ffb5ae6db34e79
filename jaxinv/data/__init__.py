"""Loaders: each a function that returns a `types.Dataset` with inputs in float32."""
