"""Can input from outside be trusted? Text, YAML and JSON, checked as they are read."""
