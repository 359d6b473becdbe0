"""What is done with a corpus when it is built."""
