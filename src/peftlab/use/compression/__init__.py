"""Makes the model of a finished run smaller or faster: what it no longer needs is found, cut out, and made good for."""
