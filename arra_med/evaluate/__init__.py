"""Evidence: fidelity and diversity of pictures with floors and intervals, and whether the prompt matters."""
