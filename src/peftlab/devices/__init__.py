"""Which devices a run is computed on, and how several of them work together."""
