"""From files to batches: one file a format, and the one LightningDataModule."""
