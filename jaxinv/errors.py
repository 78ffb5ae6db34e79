"""The one exception that means: the user can mend this."""


class InputError(ValueError):
  """What the user gave cannot be used: says in one line what, where, and what to do.

  The launch scripts print the message alone, without a traceback, and exit with status 1.
  """
