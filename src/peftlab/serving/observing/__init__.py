"""What do those who run a server learn of it? Metrics, a log of requests, traces, drift, and alerts by rules."""
