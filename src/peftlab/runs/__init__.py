"""What is kept of a run: its identity, its record and its folder; how runs are found again and compared. No torch."""
