"""What goes over the wire: requests, checked field by field, and answers in the shape of the original's."""
