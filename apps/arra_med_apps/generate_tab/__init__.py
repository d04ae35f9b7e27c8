"""Report to images."""
