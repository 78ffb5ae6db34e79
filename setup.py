"""What pyproject.toml cannot say: the folder launch/ is installed as the package jaxinv._launch.

So no package with a name as common as `launch` is put at the top of the user's environment.
"""

from setuptools import find_packages, setup

setup(
  packages=[*find_packages(include=["jaxinv", "jaxinv.*"]), "jaxinv._launch"],
  package_dir={"jaxinv._launch": "launch"},
)
