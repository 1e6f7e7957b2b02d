"""What is done with a finished run: predict, evaluate, export, check it against its record, train it again."""
