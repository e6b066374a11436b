"""The feed on Redis: a relay writes what a stream receives, and any number of readers take it from there."""
