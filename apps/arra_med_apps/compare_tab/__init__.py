"""The tab that sets models side by side: one report, the same seeds, and what can be said of the pictures."""
