"""What goes to and fro in a round."""
