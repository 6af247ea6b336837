"""Offline: trains, exports, quantises and measures what the service loads."""
