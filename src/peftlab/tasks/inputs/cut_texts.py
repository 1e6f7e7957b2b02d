"""What a task says of texts that the model does not see whole."""

from __future__ import annotations

from typing import Any

from peftlab.tasks.task import Encoded, Task, spec


@spec
class CutTexts(Task):
    """A task that cuts long texts: its encoding has the arrays ``truncated`` and ``empty``, see `encode_texts`."""

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated texts, of truncated tokens, and of texts without a token."""
        return {
            "truncated texts": encoded.counts["truncated_texts"],
            "truncated tokens": encoded.counts["truncated_tokens"],
            "texts without a token": int(encoded.arrays["empty"].sum()),
        }

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``truncated`` and the number of ``lost_tokens``, or ``empty``, where they apply."""
        truncated, empty = (int(encoded.arrays[name][index]) for name in ("truncated", "empty"))
        return ({"truncated": True, "lost_tokens": truncated} if truncated else {}) | ({"empty": True} if empty else {})
