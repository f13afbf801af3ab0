"""A process that takes records from the broker into the inbox. It holds no state: killing it loses nothing, and several share the load."""
