"""What keeps the path alive: connections, reconnects, subscriptions, states."""
