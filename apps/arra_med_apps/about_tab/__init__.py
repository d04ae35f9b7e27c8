"""What the app is, holds and is for."""
