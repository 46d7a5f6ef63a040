"""The running station: stages, buffers, gate, triggers, recipes and commands; `service` is the only wiring."""
