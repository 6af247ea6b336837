"""Other servers in front of the same models, each in the environment of `.venv/peers`."""
