"""Evidence: fidelity of pictures, and whether the prompt matters."""
