"""What scripts/lint-deploy runs: one module for each kind of setup, and `broken`, which proves that they can fail."""
