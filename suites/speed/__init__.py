"""The harness beside other libraries, plain loops, and the bare matrix products."""
