"""What ingestion sees in a file."""
