"""launch.power: how soon in training an audit sees it."""
