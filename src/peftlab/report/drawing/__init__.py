"""How does a figure of a report become a picture? One drawing, in every format, on paper and on a screen. No torch."""
