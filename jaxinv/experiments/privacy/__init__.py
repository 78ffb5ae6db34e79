"""launch.privacy: what DP-SGD costs, what it hides, and whether it keeps to its epsilon."""
