"""What counters overfitting, besides the task's loss? One file per regulariser. Plain PyTorch."""
