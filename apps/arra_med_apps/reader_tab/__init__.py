"""Reader studies: set up, read blind, and what was found."""
