"""What a run tells while it runs and when it is done."""
