"""The benchmark: three-line tests over the fixtures of ``harness.plugin``, and their specs."""
