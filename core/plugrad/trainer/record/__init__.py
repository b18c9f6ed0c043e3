"""What a run writes and shows: the run folder, the record of each step, the display."""
