"""The server's side of MQTT: the broker that it keeps running, and its own session on it."""
