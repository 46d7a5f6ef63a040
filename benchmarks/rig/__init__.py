"""Real stations, brokers, networks and faults as processes: what tests and benchmarks attack, and what keeps count."""
