"""What a conversion refuses."""


class CheckpointError(Exception):
    """A source, or something asked of it, that cannot be; the message is a sentence for a user."""
