"""Which examples are worth a label? Queries, pools, and the rounds of a loop that asks for labels."""
