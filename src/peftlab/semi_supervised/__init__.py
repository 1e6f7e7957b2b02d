"""What do texts without labels teach? A second source of examples beside the labelled ones."""
