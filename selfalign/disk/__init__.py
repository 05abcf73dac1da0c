"""What a run's checkpoints take on disk: estimated before, reduced by policy, restored, cleaned up."""
