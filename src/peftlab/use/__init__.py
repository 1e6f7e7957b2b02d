"""What can be done with a finished run? Predict, evaluate, export, check it against its record, reproduce it."""
