"""``python -m harness`` is the command ``harness``."""

from robustness_harness import main

if __name__ == "__main__":
    main()
