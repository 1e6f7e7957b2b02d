"""Can what comes from outside be believed? Text, YAML and JSON, doubted as they are read."""
