"""How do files become batches? One module per file format, and one LightningDataModule for all of them."""
