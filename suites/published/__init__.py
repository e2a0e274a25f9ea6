"""What papers report, a file each, and a test for each of their numbers."""
