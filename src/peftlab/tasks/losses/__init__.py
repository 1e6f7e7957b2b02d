"""Parts of the losses of tasks."""
