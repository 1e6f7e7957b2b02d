"""What in a text says who somebody is? Patterns with checksums, names, and what stands in their place; no torch."""
