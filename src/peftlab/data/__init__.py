"""How do files become batches? One file per format, and the one LightningDataModule."""
