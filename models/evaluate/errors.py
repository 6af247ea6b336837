"""What an evaluation refuses."""


class EvaluationError(Exception):
    """Data or an artefact that cannot be evaluated; the message is a sentence for a user."""
