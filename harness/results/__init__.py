"""What was measured: records, the run that holds them, how it is judged, stored, and summarised."""
