"""The chaos run: a stream under hundreds of faults, judged by the server's own log. See `run.py --help`."""
