"""Load tests: realistic requests at a fixed rate, and a verdict on the service level.

Speaks HTTP only and knows nothing of how the service is built.
"""
