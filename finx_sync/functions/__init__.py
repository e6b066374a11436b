"""Blocking calls, each over its own short-lived connection."""
