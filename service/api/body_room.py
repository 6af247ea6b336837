"""How many bytes of bodies this process holds."""

from dataclasses import dataclass

from service.metrics import HTTP_BODIES_REFUSED, HTTP_BODY_BYTES


@dataclass(slots=True)
class BodyRoom:
    """Counts bytes, so that many large bodies at once are refused and do not take all memory."""

    held: int = 0

    def take(self, size: int, most: int) -> bool:
        """Count more bytes; False, and nothing is counted, if they would be over the most."""
        if self.held + size > most:
            HTTP_BODIES_REFUSED.inc()
            return False
        self.held += size
        HTTP_BODY_BYTES.set(self.held)
        return True

    def give_back(self, size: int) -> None:
        """Count bytes no longer."""
        self.held -= size
        HTTP_BODY_BYTES.set(self.held)
