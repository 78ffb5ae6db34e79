"""launch.faces: arms x seeds on faces."""
