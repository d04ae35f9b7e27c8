"""Study records: what is known about an image in words, and how those words become a prompt."""
