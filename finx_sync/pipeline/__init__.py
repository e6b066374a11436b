"""Layer 3: turns batches of payloads into calls of the user's handlers, on one thread."""
