"""What do many runs show together? From records to statistics to a document that is handed over. No torch."""
