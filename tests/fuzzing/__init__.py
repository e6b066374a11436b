"""The part in C under sanitizers. See `run.py`."""
