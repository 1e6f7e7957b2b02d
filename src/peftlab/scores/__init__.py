"""How good are the answers? One file per scorer: the counts of an example, and the scores of their sum. No torch."""
