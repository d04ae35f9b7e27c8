"""The app as a service: who may come in, whose files are whose, how much each may ask for, and how it is doing."""
