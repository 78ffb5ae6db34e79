"""Single photographs: which were trained on, and the controls that must not tell."""
