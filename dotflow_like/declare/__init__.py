"""What users write, as inert values."""
