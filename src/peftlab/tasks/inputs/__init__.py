"""What tasks read: kinds of examples, and how they become the rows of a batch."""
