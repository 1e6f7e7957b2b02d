"""How does one command plan many runs, run them in parallel and resume them?"""
