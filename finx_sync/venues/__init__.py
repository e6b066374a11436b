"""Layer 2: from payloads to messages and back, one module for each venue; no I/O."""
