"""Training: the loop, its adversary and distortions, and what is stored of it."""
