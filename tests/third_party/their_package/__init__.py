"""What another package may add to the harness: one of each kind, as its author would write it."""
