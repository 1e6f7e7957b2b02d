"""How a language model is asked and answers: conversations, templates, packed rows, and text written token by token."""
