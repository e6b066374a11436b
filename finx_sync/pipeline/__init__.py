"""Layer 3: from payloads in batches to the user's handlers, on one thread."""
