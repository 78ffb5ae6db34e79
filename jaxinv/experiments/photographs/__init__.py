"""launch.photographs: single photographs unmixed from weights, and the map of what can be had."""
