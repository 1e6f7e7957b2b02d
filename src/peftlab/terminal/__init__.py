"""What passes between a run and the terminal or scheduler that started it? Arguments, lines, signals, exit codes."""
