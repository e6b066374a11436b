"""Layer 1: turns a socket's bytes into complete text payloads."""
