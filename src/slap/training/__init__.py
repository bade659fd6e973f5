"""Training: the LightningModule, its optimizer, its trainer."""
