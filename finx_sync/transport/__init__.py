"""Layer 1: from the socket to complete text payloads."""
