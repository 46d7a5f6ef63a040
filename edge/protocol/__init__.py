"""What is said over MQTT, as pure values: `topics`, `messages`, `commands`."""
