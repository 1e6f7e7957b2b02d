"""How are secrets kept out of all that a process prints and writes? Their forms, as data, and the streams that mask."""
