"""Replacements for the clients that legacy bots use: a bot changes one import and nothing else.

Each has the constructor and the methods of the original, but uses a stream of this library: it reconnects and renews
its subscriptions, every wait has a limit, and it raises a typed error where the original hides a fault.
"""
