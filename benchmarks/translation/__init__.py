"""`python -m benchmarks.translation`: in-flight translation compared with CTranslate2."""
