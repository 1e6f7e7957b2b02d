"""What the fork server of a sweep imports, once for all trials. It computes nothing: a child of it must start afresh.

A parallel operation here would leave every child waiting for threads that it does not have, and a look at CUDA would
keep it from every GPU.
"""

import contextlib
import os

from peftlab.imports import without_collecting

with contextlib.suppress(PermissionError):
    os.setpgid(0, 0)  # what ends the controller's group must not end the server, without which no trial can be heard of

with without_collecting():
    import hydra  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401

    import peftlab.one_run  # noqa: F401
