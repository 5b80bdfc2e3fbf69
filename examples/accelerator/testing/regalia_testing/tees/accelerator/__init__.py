"""A simulated example accelerator. It protects nothing."""
