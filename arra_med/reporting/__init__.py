"""The one writer of self-contained HTML reports, their charts, and boards of pictures."""
