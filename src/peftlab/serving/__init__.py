"""How do others ask for answers? Over HTTP: runs by name, requests in batches, keys, metrics, a page."""
