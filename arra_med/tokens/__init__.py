"""Image tokenizers, the image vocabulary and the layout of a sequence."""
