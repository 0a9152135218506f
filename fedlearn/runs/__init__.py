"""What a run of many rounds keeps, and says of itself."""
