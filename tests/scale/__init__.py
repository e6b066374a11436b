"""The feed from one upstream server over relays, Redis and gateways to many readers, under faults."""
