"""From a checkpoint to an export directory that is served with no code, and to a version."""
