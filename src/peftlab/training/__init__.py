"""What does every training do on its way? The step, its losses, and the callbacks that no configuration chooses."""
