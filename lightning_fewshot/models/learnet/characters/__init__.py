"""One-shot character recognition (sections 3.1 and 3.2)."""
