"""What a text must look like, compiled for a vocabulary and followed token by token."""
