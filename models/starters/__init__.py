"""One recipe a starter model, and what the recipes share."""
