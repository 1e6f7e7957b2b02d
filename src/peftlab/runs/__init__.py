"""What does a run leave behind? Its identity, record and folder, and how runs are found and compared. No torch."""
