"""What an attacker holds -> images."""
