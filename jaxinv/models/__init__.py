"""Models, and parameter pytrees of any model."""
