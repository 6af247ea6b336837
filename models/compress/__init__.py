"""Smaller models: pruned of what matters least, or taught by a larger one."""
