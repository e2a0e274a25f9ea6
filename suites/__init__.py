"""The benchmark: three-line tests over fixtures of the pytest plugin, and their specs."""
