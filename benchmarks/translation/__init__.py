"""`python -m benchmarks.translation`: translation in flight, beside CTranslate2 on one machine."""
