"""How the station fares: statistics, alarms, clock, usage, watchdog and logs."""
