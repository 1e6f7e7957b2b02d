"""The section ``data.mask_pii``."""

from __future__ import annotations

from peftlab.data.masked.option import MaskPii


def test_a_key_in_the_home_folder_is_found_again(tmp_path, monkeypatch):
    """From the configuration that the run keeps."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("0123456789abcdef")
    chosen = MaskPii(**{"with": "surrogate", "key": "~/key"})
    assert MaskPii(**chosen.resolved()).key_digest() == chosen.key_digest()
