"""How bytes are kept: files that are never half there, tensors in them, disks, and who may write."""
