"""Who a text is about: terms by group with their counterparts, and the group of each example."""
