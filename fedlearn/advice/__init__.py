"""What errors suggest to do instead."""
