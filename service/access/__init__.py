"""Keys of clients: who may use which model, and how much."""
