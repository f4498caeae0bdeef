"""The one loop, and the one place where user code runs."""
