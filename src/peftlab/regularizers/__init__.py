"""What keeps a training from fitting its examples too closely: one file a regulariser. Plain PyTorch."""
