"""From checkpoints to versions of the model repository."""
