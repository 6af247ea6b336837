"""One search for all translators: greedy or beam search, by the rules of the model."""

from service.families.translation.search.beam import BeamSearch
from service.families.translation.search.candidates import SearchRules
from service.families.translation.search.greedy import GreedySearch
from service.families.translation.search.sequences import SearchBatch


def open_search(num_beams: int, rules: SearchRules) -> SearchBatch:
    """Return an empty search for sentences with this many beams; one beam is greedy search."""
    return GreedySearch(rules) if num_beams == 1 else BeamSearch(num_beams, rules)
