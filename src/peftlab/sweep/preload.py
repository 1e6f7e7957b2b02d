"""The imports of a sweep's fork server, done once for all trials. It must not compute: its children start afresh.

A parallel operation here would make every child wait for threads that it does not have; a look at CUDA would lock every
child out of the GPUs.
"""

import contextlib
import os

from peftlab.imports import without_collecting
from peftlab.seams.slow_imports import without_bitsandbytes

with contextlib.suppress(PermissionError):
    os.setpgid(0, 0)  # killing the controller's group must spare the server, which reports how trials end

with without_collecting(), without_bitsandbytes():
    import hydra  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401

    import peftlab.one_run  # noqa: F401
