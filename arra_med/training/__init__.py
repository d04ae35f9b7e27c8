"""Losses and trainers: fine-tuning, ARRA, and the image tokenizer."""
