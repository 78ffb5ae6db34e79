"""What somebody else's weights show."""
