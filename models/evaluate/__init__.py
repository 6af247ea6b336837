"""How good the starter models are on their test splits, asked as the service would ask them."""
