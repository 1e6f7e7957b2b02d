"""Which problem is being solved? One file per task: from examples to a loss, and from outputs to answers."""
