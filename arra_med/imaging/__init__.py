"""Pixels in, the one canonical view out."""
