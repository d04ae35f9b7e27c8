"""Generation: a report becomes image tokens, pictures and files with provenance."""
