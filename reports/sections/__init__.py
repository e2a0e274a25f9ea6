"""What a run holds, a file for each section of the page."""
