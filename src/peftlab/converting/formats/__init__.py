"""One file a format, found by its name: `convert` of each writes a model's folder as `save_pretrained` would."""
