"""How is overfitting countered? One file per regulariser. Plain PyTorch."""
