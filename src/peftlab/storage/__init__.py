"""How are bytes kept so that no file is ever half there? Atomic writes, digests, checkpoints, locks, full disks."""
