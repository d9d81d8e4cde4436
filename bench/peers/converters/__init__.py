"""What makes the files of other engines, each in the environment of its engine."""
