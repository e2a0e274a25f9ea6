"""The pytest plugin of a session that measures; ``pytest_robustness_harness`` begins it."""
