"""A live run of a stream: connections, reconnects, subscriptions, states."""
