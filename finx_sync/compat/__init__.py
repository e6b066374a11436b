"""Stand-ins for the clients that legacy bots were written with: a bot changes one import and nothing else.

Each has the constructor and the methods of the original, on a stream of this library: it reconnects and subscribes
everything again, waits are bounded, and where the original hides a fault it raises a typed error.
"""
