"""Which of the answers in a folder fits a question? Search by words, by meaning, and by both."""
