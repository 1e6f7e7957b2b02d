"""Finished runs that another one learns from."""
